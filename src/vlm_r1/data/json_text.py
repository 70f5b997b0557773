"""Character positions of the rows of a JSON text that is one list or one object; the values are not kept."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from vlm_r1.data.formats import recognise_row
from vlm_r1.errors import DataError

Span = tuple[int, int]
"""Index of the first character, and of the one after the last."""

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
_SHOWN_KEYS = 8


def iter_items(text: str, opening: int | None = None) -> Iterator[Span]:
    """Yield the spans of the items of a JSON list.

    Args:
        text: the JSON text.
        opening: index of the list's bracket; None: the list is the whole text, and nothing may follow it.

    Raises:
        DataError: not valid JSON; raised when the bad item is reached.
    """
    at = _after_space(text, (text.index("[") if opening is None else opening) + 1)
    while text[at : at + 1] != "]":
        end = _after_value(text, at, "a list of objects")
        yield at, end
        at = _after_space(text, end)
        if text[at : at + 1] not in (",", "]"):
            raise DataError(f"not valid JSON: no comma or ] at character {at}. Wanted a list of objects")
        at = _after_space(text, at + 1) if text[at] == "," else at
    if opening is None:
        _check_end(text, at + 1, "list")


def rows_of_object(text: str) -> list[Span]:
    """Find the rows of a text that is one JSON object: its only list of objects, or the object itself.

    Raises:
        DataError: not valid JSON, no rows in either way, or more than one object.
    """
    values = dict(_members(text))
    lists = {key: spans for key, span in values.items() if (spans := _objects_in(text, span))}
    found = next(iter(lists.values())) if len(lists) == 1 else []
    if found and _is_row(text, found[0]):
        return found
    if _is_row(text, _whole(text)):
        return [_whole(text)]
    if found:
        return found
    keys = ", ".join(f"{key:.40}" for key in list(values)[:_SHOWN_KEYS]) + ", …" * (len(values) > _SHOWN_KEYS)
    keys = keys or "(none)"
    advice = f", and here are several: {', '.join(f'{key:.40}' for key in lists)}" if lists else ""
    if {"images", "annotations"} <= values.keys():
        advice = ". Annotation files are read by vlm-r1 data convert"
    raise DataError(
        f"this is one JSON object with the keys {keys}; wanted a list of rows, alone or as the one list of objects "
        f"under a key{advice}"
    )


def _members(text: str) -> Iterator[tuple[str, Span]]:
    """Yield each key of the object with the span of its value; nothing may follow the object."""
    at = _after_space(text, text.index("{") + 1)
    while text[at : at + 1] != "}":
        end = _after_value(text, at, "an object")
        key = json.loads(text[at:end])
        at = _after_space(text, end)
        if not isinstance(key, str) or text[at : at + 1] != ":":
            raise DataError(f"not valid JSON: no key and colon at character {at}. Wanted a list of objects")
        start = _after_space(text, at + 1)
        end = _after_value(text, start, "a list of objects")
        yield key, (start, end)
        at = _after_space(text, end)
        if text[at : at + 1] not in (",", "}"):
            raise DataError(f"not valid JSON: no comma or }} at character {at}. Wanted a list of objects")
        at = _after_space(text, at + 1) if text[at] == "," else at
    _check_end(text, at + 1, "object")


def _check_end(text: str, at: int, what: str) -> None:
    rest = _after_space(text, at)
    if rest < len(text):
        line = text.count("\n", 0, rest) + 1
        raise DataError(
            f"more stands behind the first JSON {what}, at line {line}. Wanted a list, or one object a line"
        )


def _objects_in(text: str, span: Span) -> list[Span]:
    """The items of a list of objects; empty for any other value."""
    if text[span[0]] != "[":
        return []
    items = list(iter_items(text, span[0]))
    return items if all(text[start] == "{" for start, _ in items) else []


def _is_row(text: str, span: Span) -> bool:
    """Return whether an object has the keys of a known format."""
    try:
        recognise_row(json.loads(text[slice(*span)]))
    except DataError:
        return False
    return True


def _whole(text: str) -> Span:
    return _after_space(text, 0), len(text.rstrip(" \t\r\n"))


def _after_value(text: str, at: int, wanted: str) -> int:
    try:
        return _DECODER.raw_decode(text, at)[1]
    except (ValueError, RecursionError) as error:
        raise DataError(f"not valid JSON: {error}. Wanted {wanted}") from error


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
