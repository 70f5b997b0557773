"""Rows whose keys a data source names itself: `columns: {image: image_path, problem: expression, answer: bbox}`."""

from __future__ import annotations

from collections.abc import Mapping

from vlm_r1.config.words import ColumnRole
from vlm_r1.data.formats.base import Example, Row, make_example
from vlm_r1.errors import DataError
from vlm_r1.registry import quoted, suggestion

Columns = Mapping[ColumnRole, str]
"""What a key holds → the key."""

NO_COLUMNS: Columns = {}

COLUMNS = "columns"
"""Name of the format of a file whose data source has columns."""


def read_columns(row: Row, columns: Columns) -> Example:
    """Read a row by the keys that its data source names; what is not named stands under its own name.

    Pictures that are not named are looked for as in every format. Any other key becomes a column, also one that has
    the name of something else: with {"answer": "bbox"}, the row's own "answer" is the column "answer".

    Raises:
        DataError: a key is missing, or has a value that cannot be used.

    >>> row = {"image_path": "a.png", "expression": "the cat", "bbox": [1, 2, 3, 4], "answer": "left"}
    >>> found = read_columns(row, {"image": "image_path", "problem": "expression", "answer": "bbox"})
    >>> found.images, found.problem, found.answer, found.columns
    (('a.png',), '<image>the cat', [1, 2, 3, 4], {'answer': 'left'})
    """
    problem, answer = (_value(row, columns, role) for role in ("problem", "answer"))
    pictures = {"image": _value(row, columns, "image")} if "image" in columns else {}
    named = {columns.get("problem", "problem"), columns.get("answer", "answer"), columns.get("image", "")}
    others = {key: value for key, value in row.items() if key not in named}
    if pictures and any(others.get(key) for key in ("image", "images")):
        raise DataError(f'both {quoted(columns["image"])} (columns) and "image" are there; wanted one of them')
    return make_example({**others, **pictures}, problem, answer, used=())


def _value(row: Row, columns: Columns, role: ColumnRole) -> object:
    key = columns.get(role, role)
    if key in row:
        return row[key]
    said = f"columns names {quoted(key)} for the {role}" if role in columns else f"columns names no key for the {role}"
    keys = ", ".join(row) or "(none)"
    raise DataError(f"{said}, and the row has no such key. {suggestion(key, list(row))}Its keys: {keys:.200}")
