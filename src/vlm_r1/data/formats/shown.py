"""Values of a row in error messages: short, and never with an embedded picture in them."""

from __future__ import annotations

import json
import re
from typing import Any

_EMBEDDED = re.compile(  # data URIs, and long base64
    r"(data:(?:[\w.+-]+/[\w.+-]+)?)[\w;=.+-]*,[^\s\"'()<>]{16,}|([A-Za-z0-9+/]{12})[A-Za-z0-9+/]{60,}={0,2}"
)


def shown(value: Any) -> str:
    """Format a value as JSON, cut to 80 characters; an embedded picture is shortened to its beginning and length.

    >>> shown({"image": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg"})
    '{"image": "data:image/png… (44 characters)"}'
    """
    text = json.dumps(value, ensure_ascii=False)
    text = _EMBEDDED.sub(lambda found: f"{found[1] or found[2]}… ({len(found[0])} characters)", text)
    return text if len(text) <= 80 else f"{text[:80]}…"
