"""A data file as a sequence of records that are parsed on access: only offsets are kept in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import overload

import numpy as np

from vlm_r1.config.data import NOTHING, Allowed, DataSource
from vlm_r1.config.strategy import parse_strategy
from vlm_r1.data.access import NOWHERE, Access
from vlm_r1.data.formats import AUTO, COLUMNS, recognise_row
from vlm_r1.data.hub import cache_folder, local_rows
from vlm_r1.data.images import image_size
from vlm_r1.data.jsonl import RowOffsets, find_rows
from vlm_r1.data.other_tools import sentence_about, sentence_about_table
from vlm_r1.data.rows import Measure, Problem, RowReader, find_format, parse_row, remember
from vlm_r1.data.split import select_split
from vlm_r1.data.strategy import select_rows
from vlm_r1.errors import DataError
from vlm_r1.types import Record

CHECKED_LINES = 20_000
"""Number of rows that are checked when a file is opened; of a longer file these are evenly spaced."""

_REMOTE_REQUESTS = 16
"""Number of remote images whose headers are fetched at once."""


class LazyRecords(Sequence[Record]):
    """A sequence of records that are read on access; slices are views.

    A subclass has `__len__` and `_record`, which reads the record at an index from 0.
    """

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        """Return one record, or a view of several.

        Raises:
            DataError: the row is bad; the message starts with `file:line`.
        """
        found = range(len(self))[index]
        return self._record(found) if isinstance(found, int) else Selection(self, found)

    def _record(self, index: int) -> Record:
        raise NotImplementedError


class RecordFile(LazyRecords):
    """The records of one file. Indexing parses a row. It may be pickled and shared by processes.

    Attributes:
        source: the file, and the settings by which its records are asked and judged.
        format: name of the format of its rows; "auto" if no known format was recognised.
        n_found: number of its records before `sampling_strategy` chose among them.
        n_overlong: how many of these were then left out because their prompts are too long.

    Args:
        source: see the attribute.
        allowed: what rows may name.
        cache: folder for the rows and images of tables; None: `hub.cache_folder()`.
        seed: the recipe's; it seeds a random `sampling_strategy`.

    Raises:
        ConfigError: unknown format.
        DataError: the file cannot be read, is empty, of another tool, or `split_range` leaves nothing; the message does
            not name it. Bad rows are found by `check`, or when they are drawn.
    """

    def __init__(
        self, source: DataSource, allowed: Allowed = NOTHING, cache: Path | None = None, *, seed: int = 0
    ) -> None:
        offsets = _find_rows(source, cache)
        self.source = source
        self._cache = cache or cache_folder()
        self.format = COLUMNS if source.columns else find_format(offsets.lines(), source.format)
        self._offsets = select_split(offsets, source, self.format)
        self.n_found, self.n_overlong = len(self._offsets), 0
        self._offsets = select_rows(self._offsets, source.sampling_strategy, seed, self._portable_lines())
        self._reader = RowReader(source, self.format, image_size, allowed=allowed, cache=cache)
        if self.format == AUTO and (said := _of_another_tool(source.path, offsets)):
            raise DataError(said)

    @property
    def access(self) -> Access:
        """Remote images of the rows that may be fetched."""
        return self._reader.places.access

    def __len__(self) -> int:
        return len(self._offsets)

    @property
    def is_partial(self) -> bool:
        """Whether some records of the file, or of its split, are left out."""
        return self.source.sampling_strategy != "all" or self.n_overlong > 0

    def without_overlong(self, indices: Collection[int]) -> RecordFile:
        """Return the file without the records at these indices, whose prompts are too long."""
        other = copy(self)
        other._offsets = self._offsets.take(np.array([i for i in range(len(self)) if i not in indices], dtype=np.int64))
        other.n_overlong = len(indices)
        return other

    def describe(self) -> str:
        """Say how many records there are, e.g. "1,000 of 50,000 records (random:1000)"."""
        strategy, why = self.source.sampling_strategy, list[str]()
        if strategy != "all":
            more = ", but there are no more" if parse_strategy(strategy).asks_for_more(self.n_found) else ""
            why.append(f"{strategy}{more}")
        if self.n_overlong:
            why.append(f"{self.n_overlong:,} left out, whose prompts are longer than max_prompt_length")
        return f"{len(self):,} of {self.n_found:,} records ({'; '.join(why)})" if why else f"{len(self):,} records"

    def _record(self, index: int) -> Record:
        found = self._reader.read(self._offsets.line(index), int(self._offsets.numbers_N[index]))
        if isinstance(found, Problem):
            raise DataError(str(found))
        return found

    def scan(self, measure: Measure | None = image_size) -> Iterator[Record | Problem]:
        """Read all rows in order: yields a record or a problem for each.

        Args:
            measure: called once for each image file; None: images are not read.
        """
        reader = replace(self._reader, measure=remember(measure), checks=True)
        yield from map(reader.read, self._offsets.lines(), map(int, self._offsets.numbers_N))

    def rows(self) -> Iterator[tuple[bytes, int]]:
        """Yield the bytes of all rows, as in the file, with their numbers."""
        yield from zip(self._offsets.lines(), map(int, self._offsets.numbers_N), strict=True)

    def hash_rows(self) -> str:
        """Hash the bytes of all rows in their order: BLAKE2b, 256 bits, hexadecimal.

        Rows of tables count without the folder that holds their embedded pictures, whose names are hashes themselves.

        Raises:
            DataFileError: the file cannot be read; the message names it.
        """
        total = hashlib.blake2b(digest_size=32)
        for line in self._portable_lines():
            total.update(line)
            total.update(b"\n")
        return total.hexdigest()

    def _portable_lines(self) -> Iterator[bytes]:
        """Yield the bytes of all rows, the same on every machine: without the folder of embedded pictures."""
        kept_in = b"" if self._offsets.path == self.source.path else f"{self._cache}/".encode()
        for line in self._offsets.lines():
            yield line.replace(kept_in, b"") if kept_in else line

    def image_paths(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Yield number and image paths of each row that can be read; images and answers are not read."""
        for line, number in self.rows():
            try:
                yield number, self._reader.image_paths(line)
            except DataError:  # reported when the row is checked or drawn
                continue

    def check(self, n_lines: int = CHECKED_LINES) -> list[Problem]:
        """Find bad rows among `n_lines` evenly spaced rows of the file; the headers of their images are read too.

        If these are all rows, then rows and images are not checked again when they are drawn.
        """
        chosen_K = np.unique(np.linspace(0, len(self) - 1, min(n_lines, len(self))).round().astype(np.int64))
        chosen = self._offsets.take(chosen_K)
        reader = replace(self._reader, measure=remember(image_size), checks=True)
        rows = (chosen.lines(), map(int, chosen.numbers_N))
        if self.access != NOWHERE:
            with ThreadPoolExecutor(_REMOTE_REQUESTS) as pool:
                found = list(pool.map(reader.read, *rows))
        else:
            found = map(reader.read, *rows)
        problems = [problem for problem in found if isinstance(problem, Problem)]
        if len(chosen) == len(self):
            self._reader = replace(self._reader, checks=False)
        return problems


def _find_rows(source: DataSource, cache: Path | None) -> RowOffsets:
    """Find the rows; if the file or folder is of another tool, the error says so and names the command."""
    try:
        return find_rows(local_rows(source.path, cache))
    except DataError as error:
        if said := sentence_about(source.path):
            raise DataError(said) from error
        raise


def _of_another_tool(path: str, offsets: RowOffsets) -> str | None:
    """Say what a file is whose rows have no known format, and which command converts it."""
    if offsets.path == path:
        return sentence_about(path)
    return sentence_about_table(path, parse_row(offsets.line(0)), len(offsets))


class Selection(LazyRecords):
    """Records of a sequence at the given indices, in that order, read on access."""

    def __init__(self, records: Sequence[Record], indices: Sequence[int]) -> None:
        self._records, self._indices = records, indices

    def __len__(self) -> int:
        return len(self._indices)

    def _record(self, index: int) -> Record:
        return self._records[self._indices[index]]


def iter_records(
    source: DataSource,
    measure: Measure | None = image_size,
    allowed: Allowed = NOTHING,
    cache: Path | None = None,
) -> Iterator[Record | Problem]:
    """Yield a record or a problem for each row of a file; a file that cannot be read is one problem.

    Args:
        source: the file, in any format.
        measure: called once for each image file; None: images are not read and boxes are not compared with them.
        allowed: what rows may name.
        cache: as in `RecordFile`.

    Raises:
        ConfigError: unknown format.
    """
    try:
        records = RecordFile(source, allowed, cache)
    except DataError as error:
        yield Problem(source.path, str(error))
        return
    yield from records.scan(measure)


def recognise(path: str, cache: Path | None = None) -> str:
    """Return the name of the format in which a file would be read.

    Raises:
        DataError: the file cannot be read, or has no known format; the message names its keys and the formats.
    """
    try:
        offsets = find_rows(local_rows(path, cache))
        name = find_format(offsets.lines(), AUTO)
        return recognise_row(parse_row(offsets.line(0))) if name == AUTO else name
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
