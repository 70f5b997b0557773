"""Lines of a file → records; every bad line is named (docs/data.md)."""

from __future__ import annotations

import codecs
import json
import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from vlm_r1.config.schema import DataSource
from vlm_r1.data.images import image_size
from vlm_r1.data.json_text import iter_items, rows_of_object
from vlm_r1.data.rows import Measure, Problem, RowReader, decoded, find_format, remember, summarise
from vlm_r1.errors import DataError, DataFileError
from vlm_r1.files import open_regular
from vlm_r1.types import Record


def read_jsonl(
    path: str | os.PathLike[str], *, image_root: str | os.PathLike[str] = "", task: str, reward: str | None = None
) -> list[Record]:
    """Read a whole JSON or JSONL file, in which every line must be good. (`load_sources` reads lines on demand.)

    Args:
        path: the file, in any of `FORMATS`.
        image_root: folder or URL to which image paths are relative; empty: the folder of the file.
        task: task of all its records, e.g. "rec".
        reward: accuracy reward of records without `accu_reward_method`; None: the task's own.

    Raises:
        DataError: some lines are bad, each named as `file:line: …` (see `summarise`), or the file is missing or empty.
    """
    records, problems = scan_jsonl(path, image_root=image_root, task=task, reward=reward)
    if problems:
        raise DataError(summarise(problems))
    return records


def scan_jsonl(
    path: str | os.PathLike[str], *, image_root: str | os.PathLike[str] = "", task: str, reward: str | None = None
) -> tuple[list[Record], list[Problem]]:
    """Like `read_jsonl`, but return the good records and the problems instead of raising. Image headers are read."""
    found = list(iter_jsonl(path, image_root=image_root, task=task, reward=reward, measure=image_size))
    return [r for r in found if isinstance(r, Record)], [p for p in found if isinstance(p, Problem)]


def iter_jsonl(
    path: str | os.PathLike[str],
    *,
    image_root: str | os.PathLike[str],
    task: str,
    reward: str | None,
    measure: Measure | None,
) -> Iterator[Record | Problem]:
    """Yield a record or a problem for each line that is not blank; a missing or empty file is one problem.

    Args:
        measure: called once for each image file; None: images are not read and boxes are not compared with them.
    """
    source = DataSource(path=os.fspath(path), image_root=os.fspath(image_root), task=task, reward=reward)
    try:
        offsets = find_rows(source.path)
        reader = RowReader(source, find_format(offsets.lines(), source.format), remember(measure))
    except DataError as error:
        yield Problem(source.path, str(error))
        return
    yield from map(reader.read, offsets.lines(), map(int, offsets.numbers_N))


@dataclass(frozen=True)
class RowOffsets:
    """Positions of the N rows of a file: 24 bytes for each row.

    Attributes:
        path: the file.
        starts_N, sizes_N: first byte and number of bytes of each row.
        numbers_N: line number of each row, or its position in the list of a `.json` file, from 1.
    """

    path: str
    starts_N: npt.NDArray[np.int64]
    sizes_N: npt.NDArray[np.int64]
    numbers_N: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts_N)

    def take(self, indices_K: npt.NDArray[np.int64]) -> RowOffsets:
        """Select the rows at these indices."""
        return RowOffsets(self.path, self.starts_N[indices_K], self.sizes_N[indices_K], self.numbers_N[indices_K])

    def line(self, index: int) -> bytes:
        """Read the bytes of one row."""
        return next(self.take(np.array([index])).lines())

    def lines(self) -> Iterator[bytes]:
        """Yield the bytes of all rows in turn.

        Raises:
            DataFileError: the file has gone or become shorter.
        """
        try:
            with open_regular(self.path) as file:
                yield from map(partial(self._line, file), map(int, self.starts_N), map(int, self.sizes_N))
        except OSError as error:
            raise DataFileError(f"{self.path}: can no longer be read: {error.strerror}. Restore the file") from error

    def _line(self, file: BinaryIO, start: int, size: int) -> bytes:
        file.seek(start)
        line = file.read(size)
        if len(line) < size:
            raise DataFileError(f"{self.path}: has become shorter since it was opened: restore the file")
        return line


def find_rows(path: str) -> RowOffsets:
    """Find the rows of a file: lines that are not blank, or the rows in the one JSON value of the file.

    Raises:
        DataError: the file cannot be read, or holds no rows; the message does not name it.
    """
    try:
        found = _rows_in_json(path)
        offsets = _rows_of_lines(path) if found is None else found
    except OSError as error:
        raise DataError(f"cannot read the data file: {error.strerror}") from error
    if not len(offsets):
        raise DataError("holds no records; wanted one JSON object on each line, or a list of them in a .json file")
    return offsets


def _rows_of_lines(path: str) -> RowOffsets:
    starts, sizes, numbers = array("q"), array("q"), array("q")
    start = 0
    with open_regular(path) as lines:
        for number, line in enumerate(lines, start=1):
            bom = len(codecs.BOM_UTF8) if number == 1 and line.startswith(codecs.BOM_UTF8) else 0
            if line[bom:].strip():
                starts.append(start + bom)
                sizes.append(len(line) - bom)
                numbers.append(number)
            start += len(line)
    return RowOffsets(path, *(np.frombuffer(column, dtype=np.int64) for column in (starts, sizes, numbers)))


def _rows_in_json(path: str) -> RowOffsets | None:
    """Find the rows of a file that is one JSON value: a list, an object with one list of rows, or a row itself.

    Such a file is parsed once as a whole, and only the offsets of its rows are kept. A file that is not named `.json`
    counts as one value only if none of its first lines is an object and the whole is valid JSON.

    Returns:
        The rows; None if the file is to be read as lines.
    """
    first_lines = _first_lines(path)
    opening = first_lines[0][:1] if first_lines else b""
    is_named, has_rows = path.lower().endswith(".json"), any(map(_is_object, first_lines))
    if opening not in (b"[", b"{") or (has_rows and not is_named):
        return None
    if opening == b"{" and len(first_lines) > 1 and _is_object(first_lines[0]):
        return None
    with open_regular(path) as file:
        content = file.read()
    skipped = len(codecs.BOM_UTF8) if content.startswith(codecs.BOM_UTF8) else 0
    try:
        text = decoded(content[skipped:])
        spans = iter_items(text) if opening == b"[" else rows_of_object(text)
        return _rows_of_spans(path, text, spans, skipped)
    except DataError:
        if not is_named or (
            opening == b"{" and len(first_lines) > 1 and has_rows
        ):  # lines, of which the first is broken
            return None
        raise


_SAMPLED_LINES = 20
"""Number of lines at the start of a file that are read to decide whether it is lines or one value."""


def _first_lines(path: str) -> list[bytes]:
    with open_regular(path) as file:
        stripped = (line.removeprefix(codecs.BOM_UTF8).strip() for line in file)
        return list(islice(filter(None, stripped), _SAMPLED_LINES))


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _rows_of_spans(path: str, text: str, spans: Iterable[tuple[int, int]], skipped: int) -> RowOffsets:
    """Turn spans of characters into offsets of bytes."""
    starts, sizes = array("q"), array("q")
    byte, seen = skipped, 0
    for start, end in spans:
        byte += len(text[seen:start].encode())
        starts.append(byte)
        sizes.append(len(text[start:end].encode()))
        byte, seen = byte + sizes[-1], end
    numbers_N = np.arange(1, len(starts) + 1, dtype=np.int64)
    return RowOffsets(path, np.frombuffer(starts, dtype=np.int64), np.frombuffer(sizes, dtype=np.int64), numbers_N)
