"""The formats of rows that can be read. A format only knows keys, so each may come as JSON, Parquet or from the hub.

To add one: a `Format` in its own file and a line in `FORMATS`, or `format: my_package.module:MY_FORMAT` in the recipe.
"""

from __future__ import annotations

from vlm_r1.data.formats.base import Example, Format, Row
from vlm_r1.data.formats.columns import COLUMNS, NO_COLUMNS, Columns, read_columns
from vlm_r1.data.formats.conversational import CONVERSATIONAL
from vlm_r1.data.formats.ms_swift import MS_SWIFT
from vlm_r1.data.formats.problem_answer import EASY_R1, QUESTION_ANSWER, R1_V
from vlm_r1.data.formats.vlm_r1 import VLM_R1, VLM_R1_EVAL
from vlm_r1.errors import DataError
from vlm_r1.registry import resolve

__all__ = [
    "AUTO",
    "COLUMNS",
    "FORMATS",
    "Columns",
    "Example",
    "Format",
    "Row",
    "get_format",
    "read_row",
    "recognise_row",
]

AUTO = "auto"
"""Name that means: recognise the format from the first rows of the file."""

FORMATS = {  # the first that recognises a row reads it
    "vlm_r1": VLM_R1,
    "vlm_r1_eval": VLM_R1_EVAL,
    "easy_r1": EASY_R1,
    "r1_v": R1_V,
    "ms_swift": MS_SWIFT,
    "conversational": CONVERSATIONAL,
    "question_answer": QUESTION_ANSWER,
}


def get_format(name: str) -> Format:
    """Return the format of that name, or a plug-in named `package.module:NAME`.

    Raises:
        ConfigError: unknown name.
    """
    return resolve("format", name, FORMATS)


def recognise_row(row: Row) -> str:
    """Return the name of the first format that has the keys of the row.

    Raises:
        DataError: there is none; the message names the row's keys and those of each format.

    >>> recognise_row({"problem": "How many?", "answer": 3, "images": ["a.png"]})
    'easy_r1'
    """
    for name, fmt in FORMATS.items():
        if fmt.recognises(row):
            return name
    others = ("vlm_r1", "ms_swift", "conversational", "question_answer")  # the rest are special cases of the last
    known = "; ".join(f"{name} ({FORMATS[name].wants})" for name in others)
    raise DataError(f"{_keys(row)} fit no format. Known: {known}. Rename keys")


def read_row(row: Row, name: str, columns: Columns = NO_COLUMNS) -> Example:
    """Read a row by its `columns`; without them in the format of that name, or in the one it is recognised as (AUTO).

    Raises:
        ConfigError: unknown name.
        DataError: the row has not the keys of the format, or values that cannot be used.
    """
    if columns:
        return read_columns(row, columns)
    name = recognise_row(row) if name == AUTO else name
    fmt = get_format(name)
    if fmt.recognises(row):
        return fmt.read(row)
    fitting = [other for other in FORMATS if FORMATS[other].recognises(row)]
    advice = f"They fit {fitting[0]}" if fitting else f"Known: {', '.join(FORMATS)}"
    raise DataError(f"{_keys(row)} do not fit format {name}, which wants {fmt.wants}. {advice}")


def _keys(row: Row) -> str:
    names = ", ".join(row) or "(none)"
    return f"the keys {names if len(names) <= 100 else f'{names[:100]}…'}"
