"""Text of models, data files and names, made fit to be written to files and shown in terminals and pages.

What a model writes may hold anything that a JSON escape can produce: half a surrogate pair, which no file in UTF-8 can
hold, NaN, numbers of thousands of digits, a thousand brackets. Every writer of such values uses these functions.
"""

from __future__ import annotations

import io
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

_MAX_DEPTH = 100
_TOO_DEEP = "(nested too deeply to be written)"
_LARGEST = 10 ** (sys.int_info.default_max_str_digits - 1)  # Python refuses to write longer integers

# C0 and C1 controls except tab and newline, which would act on a terminal; and characters that are invisible, or that
# change the direction of the text around them
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def writable(value: Any) -> Any:
    """Return a decoded JSON value as one that strict JSON in UTF-8 can hold, keys included; other values are unchanged.

    Lone surrogates become `?`, numbers that are not finite and integers of more than 4,299 digits become None, tuples
    become lists, and what is nested deeper than 100 levels becomes a text that says so.

    >>> writable({"label": chr(0xD83D), "box": (1, float("nan"))})
    {'label': '?', 'box': [1, None]}
    """
    return _writable(value, _MAX_DEPTH)


def json_text(value: Any, indent: int | None = None) -> str:
    """Write a value as strict JSON that UTF-8 can hold; see `writable`.

    >>> json_text({"text": "naïve " + chr(0xDE00), "loss": float("inf")})
    '{"text": "naïve ?", "loss": null}'
    """
    return json.dumps(writable(value), ensure_ascii=False, allow_nan=False, indent=indent)


def visible(text: str) -> str:
    """Write out control characters, lone surrogates, and characters that are invisible or change the direction of text.

    >>> visible("a" + chr(0) + chr(0x202E) + chr(27) + "[31m")
    'a␀\\\\u202e␛[31m'
    """
    return _INVISIBLE.sub(lambda found: _written(ord(found[0])), text)


def write_out_unknown_characters(*streams: object) -> None:
    """Let open text files write out what their encoding lacks, e.g. `\\xd7` in ASCII (LANG=C), instead of failing."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _writable(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        return value if -_LARGEST < value < _LARGEST else None
    if not isinstance(value, list | tuple | Mapping):
        return value
    if not depth:
        return _TOO_DEEP
    if isinstance(value, Mapping):
        items = cast(Mapping[Any, Any], value).items()
        return {_writable(key, depth): _writable(item, depth - 1) for key, item in items}
    return [_writable(item, depth - 1) for item in cast(Sequence[Any], value)]


def _written(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
