"""The rows of a file in a `split_range`. A row's side is the same on every machine, also when rows are added later."""

from __future__ import annotations

import json
import posixpath
from hashlib import blake2b

import numpy as np

from vlm_r1.config.schema import DataSource
from vlm_r1.data.formats import Columns, read_row
from vlm_r1.data.formats.media import KEPT_FILE
from vlm_r1.data.jsonl import RowOffsets
from vlm_r1.data.rows import parse_row, row_id
from vlm_r1.errors import DataError


def split_position(key: str) -> float:
    """Position of a record in [0, 1): the first 8 bytes of BLAKE2b of its id or picture, over 2^64.

    >>> round(split_position("17"), 4)
    0.1259
    """
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64


def select_split(offsets: RowOffsets, source: DataSource, fmt: str) -> RowOffsets:
    """Select the rows whose id or picture has a position in the range of the source.

    For a row that cannot be read the line number counts, and for a row without pictures the id.

    Raises:
        DataError: no row is in the range; the message does not name the file.
    """
    first, last = source.split_range
    if (first, last) == (0, 1):
        return offsets
    rows = zip(offsets.lines(), map(int, offsets.numbers_N), strict=True)
    keys = [_id_of(*row) for row in rows] if source.split_by == "id" else _by_picture(offsets, fmt, source.columns)
    kept_N = np.fromiter((first <= split_position(key) < last for key in keys), dtype=bool, count=len(offsets))
    if not kept_N.any():
        raise DataError(f"split_range {[first, last]} leaves none of its {len(offsets)} records; widen it")
    return offsets.take(np.flatnonzero(kept_N))


def _by_picture(offsets: RowOffsets, fmt: str, columns: Columns) -> list[str]:
    """Return a key for each row that is equal for all rows connected by shared pictures: their least picture name.

    A row with several pictures connects these, so that no picture ends up on both sides of a split.
    """
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        while parents[name] != name:
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    keys: list[str] = []
    for line, number in zip(offsets.lines(), map(int, offsets.numbers_N), strict=True):
        names = _pictures_of(line, fmt, columns)
        keys.append(names[0] if names else f"id:{_id_of(line, number)}")
        for name in (*names, keys[-1]):
            parents.setdefault(name, name)
        for name in names[1:]:
            low, high = sorted((root(names[0]), root(name)))
            parents[high] = low
    return [root(key) for key in keys]


def _pictures_of(line: bytes, fmt: str, columns: Columns) -> list[str]:
    try:
        names = read_row(parse_row(line), fmt, columns).images
    except DataError:  # reported when the row is read
        return []
    return [_short(name) for name in names]


def _short(name: str) -> str:
    """Shorten a name to one that is the same on every machine; embedded pictures get a hash."""
    if kept := KEPT_FILE.fullmatch(name):
        return kept[1]
    return posixpath.normpath(name) if len(name) < 1024 else blake2b(name.encode(), digest_size=16).hexdigest()


def _id_of(line: bytes, number: int) -> str:
    try:
        return row_id(json.loads(line), number)
    except (ValueError, RecursionError):  # reported when the row is read
        return str(number)
