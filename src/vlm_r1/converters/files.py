"""Annotation files → values; an error names the file and the key path of a wrong value."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, overload

from vlm_r1.converters.ids import Id, read_id
from vlm_r1.errors import DataError
from vlm_r1.files import read_text
from vlm_r1.parsing.json_values import is_list, is_number, is_object

T = TypeVar("T")

_NUMERIC = frozenset((int, float, str))
_WANTED = {str: "a text", int: "an integer", float: "a number", list: "a list", dict: "an object"}


def read_json(
    path: Path, slim: Callable[[dict[str, Any]], dict[str, Any]] | None = None, encoding: str = "utf-8-sig"
) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        slim: called with every object while reading, the inner ones first; returns what is kept of it. It saves
            the memory that COCO's polygons take.
        encoding: the default also removes a byte order mark.

    Raises:
        DataError: missing, unreadable or not JSON.
    """
    try:
        return json.loads(read_text(path, encoding), object_hook=slim)
    except OSError as error:
        raise DataError(f"{path}: cannot read the file: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise DataError(f"{path}: not valid JSON: {error}") from error


def read_plain(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Raises:
        DataError: missing, unreadable or of another encoding.
    """
    try:
        return read_text(path, "utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot read the file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8: {error}. Save the file as UTF-8") from error


@overload
def take(row: Any, key: str, kind: type[list[Any]], *where: object) -> list[Any]: ...
@overload
def take(row: Any, key: str, kind: type[T], *where: object) -> T: ...
@overload
def take(row: Any, key: str, kind: None, *where: object) -> Id: ...
def take(row: Any, key: str, kind: type[Any] | None, *where: object) -> Any:
    """Return `row[key]`, which must be of the given kind.

    Args:
        row: the object that holds the key.
        key: e.g. "bbox".
        kind: str, int (takes whole floats too), float (takes integers too), list or dict; None: an id (`read_id`).
        where: file, then keys and numbers down to `row`, e.g. ("instances.json", "annotations", 12).

    Raises:
        DataError: e.g. "instances.json: annotations[12].bbox: missing, got the keys id; wanted a list".

    >>> take({"id": 7, "area": 3}, "area", float, "a.json", "annotations", 0)
    3
    """
    value: Any = row.get(key) if is_object(row) else None
    if kind is None:
        value = read_id(value)
    elif kind is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    fits = isinstance(value, (int, str) if kind is None else (int, float) if kind is float else kind)
    if fits and (type(value) is not bool) and (type(value) not in (int, float) or is_number(value)):
        return value
    wanted = "an integer or a text" if kind is None else _WANTED[kind]
    if not is_object(row):
        raise DataError(f"{location(*where)}: got {shown(row)}, wanted an object with the key {key!r}")
    if key not in row:
        keys = ", ".join(map(str, row)) or "(none)"
        raise DataError(f"{location(*where, key)}: missing, got the keys {keys:.200}; wanted {wanted}")
    raise DataError(f"{location(*where, key)}: got {shown(row[key])}, wanted {wanted}")


def take_numbers(row: Any, key: str, n: int, *where: object) -> list[float]:
    """Return `row[key]`, which must be a list of n finite numbers; see `take`.

    Raises:
        DataError: it is not.
    """
    values = take(row, key, list, *where)
    if len(values) != n or not all(map(is_number, values)):
        raise DataError(f"{location(*where, key)}: got {shown(values)}, wanted {n} numbers")
    return values


def numbers_in(value: Any, n: int) -> list[float] | None:
    """Read n finite numbers from a list of numbers or of texts; None for anything else.

    >>> numbers_in([1, "2.5"], 2), numbers_in([1, None], 2), numbers_in("12", 2)
    ([1.0, 2.5], None, None)
    """
    if not is_list(value) or len(value) != n or not _NUMERIC.issuperset(map(type, value)):
        return None
    try:
        numbers = list(map(float, value))
    except (ValueError, OverflowError):
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def integer_in(value: Any) -> int | None:
    """Read a whole number from an integer, a float or a text; None for anything else.

    >>> integer_in(640), integer_in(640.0), integer_in("640"), integer_in(0.5), integer_in(None)
    (640, 640, 640, None, None)
    """
    number = numbers_in([value], 1)
    return int(number[0]) if number and number[0].is_integer() else None


def size_in(width: Any, height: Any) -> tuple[int, int] | None:
    """Read the size of an image from two whole numbers above 0; None for anything else.

    >>> size_in("640", 480.0), size_in(0, 0), size_in(None, 480)
    ((640, 480), None, None)
    """
    w, h = integer_in(width), integer_in(height)
    return (w, h) if w and h and min(w, h) > 0 else None


def location(*where: object) -> str:
    """Format a file and a key path.

    >>> location("a.json", "annotations", 12, "bbox"), location("a.json")
    ('a.json: annotations[12].bbox', 'a.json')
    """
    file, *steps = where
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")
    return f"{file}: {path}" if path else str(file)


def shown(value: object) -> str:
    """Format a value for an error message, cut at 80 characters; only the start of a long text or list is read."""
    start: Any = value[:100] if isinstance(value, (str, bytes, list)) else value  # pyright: ignore[reportUnknownVariableType]
    try:
        text = repr(start)
    except (ValueError, RecursionError):  # an integer of 5,000 digits, a thousand brackets
        return f"a value of type {type(start).__name__} that is too large to be shown"
    return text if len(text) <= 80 else f"{text[:80]}…"
