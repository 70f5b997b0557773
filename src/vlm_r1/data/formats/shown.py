"""Values of a row in error messages: short, and never with an embedded picture in them."""

from __future__ import annotations

import json
import re
from typing import Any

_DATA_URI = re.compile(r"data:([\w.+-]+/[\w.+-]+)?[\w;=.+-]*,[^\s\"'()<>]{16,}")


def shown(value: Any) -> str:
    """A value as JSON, cut to 80 characters; of a data URI its kind and length.

    >>> shown({"image": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg"})
    '{"image": "data:image/png… (44 characters)"}'
    """
    text = without_data(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= 80 else f"{text[:80]}…"


def without_data(text: str) -> str:
    """The text, of each data URI in it only the kind and the length."""
    return _DATA_URI.sub(lambda found: f"data:{found[1] or ''}… ({len(found[0])} characters)", text)
