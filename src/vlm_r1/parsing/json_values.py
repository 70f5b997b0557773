"""The kinds of decoded JSON: `isinstance`, but the type checker learns what an object and a list hold."""

from __future__ import annotations

import re
import sys
from typing import Any, TypeGuard

MAX_DEPTH = 100
"""Levels of lists and objects in a row of data; Python's own limit depends on where a value is walked."""

LARGEST = 10**300
"""Bound of integers in a row of data; a float holds no integer beyond 1.8e308."""

_LONG_NUMBER = re.compile("[0-9]{301}")  # LARGEST has 301 digits


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Return whether a decoded value is a JSON object.

    >>> is_object({"a": 1}), is_object([1])
    (True, False)
    """
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Return whether a decoded value is a JSON list.

    >>> is_list([1]), is_list("[1]")
    (True, False)
    """
    return isinstance(value, list)


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a decoded value is a finite number that a float can hold; truth values are none.

    >>> [is_number(value) for value in (1, 0.5, True, float("nan"), 10**400, "1")]
    [True, True, False, False, False, False]
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def beyond_bounds(value: object, text: str) -> str:
    """Say what in a decoded value is nested or large beyond `MAX_DEPTH` and `LARGEST`; "" if nothing is.

    Args:
        text: the JSON of the value. Few brackets and no long number show at once that it keeps the bounds, as nearly
            all rows do: 0.8 µs for a row of 300 characters, where walking through the value takes 8.5.

    >>> beyond_bounds({"a": [1]}, '{"a": [1]}'), beyond_bounds([10**400], f"[{10**400}]")
    ('', 'an integer of more than 300 digits')
    """
    if text.count("[") + text.count("{") <= MAX_DEPTH and not _LONG_NUMBER.search(text):
        return ""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        if any(isinstance(one, int) and abs(one) >= LARGEST for one in level):
            return "an integer of more than 300 digits"
        inner: list[Any] = []
        for one in level:
            inner.extend(one.values() if is_object(one) else one if is_list(one) else ())
        level = inner
        if not level:
            return ""
    return f"lists or objects in more than {MAX_DEPTH} levels"
