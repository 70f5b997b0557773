"""Which rows of a file lie in a `split_range`: the same on every machine, whatever is added to the file later."""

from __future__ import annotations

import json
import posixpath
from hashlib import blake2b

import numpy as np

from vlm_r1.config.schema import DataSource
from vlm_r1.data.formats import read_row
from vlm_r1.data.formats.media import KEPT_FILE
from vlm_r1.data.jsonl import Places
from vlm_r1.data.rows import parse_row, row_id
from vlm_r1.errors import DataError


def split_position(key: str) -> float:
    """Where a record stands in [0, 1): the first 8 bytes of BLAKE2b of its id or picture, over 2^64.

    >>> round(split_position("17"), 4)
    0.1259
    """
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64


def split_places(places: Places, source: DataSource, fmt: str) -> Places:
    """The rows whose id, or whose picture, lies in the range of the source.

    A row that cannot be read goes by its line number; one without pictures, by its id.

    Raises:
        DataError: none does; the message does not name the file.
    """
    first, last = source.split_range
    if (first, last) == (0, 1):
        return places
    rows = zip(places.lines(), map(int, places.numbers_N), strict=True)
    keys = [_id_of(*row) for row in rows] if source.split_by == "id" else _by_picture(places, fmt)
    kept_N = np.fromiter((first <= split_position(key) < last for key in keys), dtype=bool, count=len(places))
    if not kept_N.any():
        raise DataError(f"split_range {[first, last]} leaves none of its {len(places)} records; widen it")
    return places.take(np.flatnonzero(kept_N))


def _by_picture(places: Places, fmt: str) -> list[str]:
    """For each row a name that it shares with all rows that it is tied to by pictures: the least name among them.

    Rows of several pictures tie these together, so that no picture lies on both sides.
    """
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        while parents[name] != name:
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    keys: list[str] = []
    for line, number in zip(places.lines(), map(int, places.numbers_N), strict=True):
        names = _pictures_of(line, fmt)
        keys.append(names[0] if names else f"id:{_id_of(line, number)}")
        for name in (*names, keys[-1]):
            parents.setdefault(name, name)
        for name in names[1:]:
            low, high = sorted((root(names[0]), root(name)))
            parents[high] = low
    return [root(key) for key in keys]


def _pictures_of(line: bytes, fmt: str) -> list[str]:
    try:
        names = read_row(parse_row(line), fmt).images
    except DataError:  # is told when the row is read
        return []
    return [_short(name) for name in names]


def _short(name: str) -> str:
    """A name that is the same on every machine; of embedded pictures a hash, not megabytes of text."""
    if kept := KEPT_FILE.fullmatch(name):
        return kept[1]
    return posixpath.normpath(name) if len(name) < 1024 else blake2b(name.encode(), digest_size=16).hexdigest()


def _id_of(line: bytes, number: int) -> str:
    try:
        return row_id(json.loads(line), number)
    except (ValueError, RecursionError):  # is told when the row is read
        return str(number)
