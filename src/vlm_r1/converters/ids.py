"""Ids of annotation files, which tools write as numbers, as texts or as floats, sometimes wrongly."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from typing import Any

from vlm_r1.errors import DataError

Id = int | str
"""The id of an image, annotation or category, in the form that `read_id` gives it."""

_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]{0,17}))(?:\.0+)?")
_PADDED = re.compile(r"-?0+[0-9]{1,18}")
_EXACT = 2.0**53
"""Above this, floats are not exact: two ids may have become one."""


def read_id(value: Any) -> Id | None:
    """Bring an id of any type to one form: whole numbers to integers, other texts to composed characters (NFC).

    A text with leading zeros stays a text: 007 and 7 may or may not be the same (see `check_alike`).

    Returns:
        The id; None for values that cannot be ids: null, truth values, lists, fractions, an empty text.

    >>> read_id(7), read_id("7"), read_id(7.0), read_id("7.0"), read_id("007"), read_id("a7"), read_id(7.5)
    (7, 7, 7, 7, '007', 'a7', None)
    """
    if type(value) is int:
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _EXACT else None
    if not isinstance(value, str):
        return None
    text = value.strip()
    whole = _WHOLE.fullmatch(text)
    return int(whole[1]) if whole else unicodedata.normalize("NFC", text) or None


def check_alike(what: str, ids: Iterable[Id], path: object) -> None:
    """Refuse a file in which two ids differ by leading zeros only, since they may be the same id.

    Args:
        what: e.g. "image".
        ids: all ids of that kind, both those that are defined and those that are referred to.
        path: the file, for the error.

    Raises:
        DataError: e.g. 'a.json: the image ids "007" and 7 differ by leading zeros only'.
    """
    known: dict[int, Id] = {}
    padded: list[str] = []
    for own in ids:
        if isinstance(own, int):
            known[own] = own
        elif _PADDED.fullmatch(own):
            padded.append(own)
    for own in sorted(padded):
        other = known.setdefault(int(own), own)
        if other != own:
            raise DataError(
                f"{path}: the {what} ids {_shown(own)} and {_shown(other)} differ by leading zeros only, so nobody "
                "knows whether they are the same. Write all of them alike"
            )


def check_shift(what: str, known: Collection[Id], used: Collection[Id], path: object) -> None:
    """Refuse a file whose references are all one too high, or all one too low.

    Most of them would still refer to something, but to the wrong thing.

    Raises:
        DataError: some used ids are unknown, and all of them are known ids plus one, or minus one.
    """
    if not used or all(own in known for own in used):
        return
    for shift in (1, -1):
        if all(isinstance(own, int) and own - shift in known for own in used):
            low, high = min(map(int, used)), max(map(int, used))
            raise DataError(
                f"{path}: the annotations' {what} ids ({low} to {high}) look shifted by {shift:+d} against those of "
                "the file's own list, so every one may mean another. Correct them"
            )


def _shown(own: Id) -> str:
    return f'"{own}"' if isinstance(own, str) else str(own)
