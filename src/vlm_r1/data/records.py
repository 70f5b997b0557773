"""A data file as a sequence of records that are parsed when they are asked for: offsets are kept, not objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import overload

import numpy as np

from vlm_r1.config.schema import DataSource
from vlm_r1.data.formats import AUTO, recognise_row
from vlm_r1.data.hub import local_rows
from vlm_r1.data.images import image_size, is_remote
from vlm_r1.data.jsonl import find_places
from vlm_r1.data.rows import Measure, Problem, RowReader, find_format, parse_row, remember
from vlm_r1.data.split import split_places
from vlm_r1.errors import DataError
from vlm_r1.types import Record

CHECKED_LINES = 20_000
"""A file of at most so many rows is checked whole when it is opened; of a longer one so many, evenly spaced."""

_REMOTE_REQUESTS = 16
"""Images behind a URL whose headers are fetched at once."""


class RecordFile(Sequence[Record]):
    """The records of one file. Indexing parses a row; slices are views. May be pickled and shared by processes.

    Attributes:
        source: the file, and how its records are asked and judged.
        format: name of the format of its rows; "auto" if no known one was recognised.

    Args:
        source: see above.
        cache: folder for the rows and images of tables; None: `hub.cache_folder()`.

    Raises:
        ConfigError: unknown format.
        DataError: the file cannot be read, is empty, or `split_range` leaves nothing; the message does not name it.
            Bad rows are found by `check`, or else when they are drawn.
    """

    def __init__(self, source: DataSource, cache: Path | None = None) -> None:
        places = find_places(local_rows(source.path, cache))
        self.source = source
        self.format = find_format(places.lines(), source.format)
        self._places = split_places(places, source, self.format)
        self._reader = RowReader(source, self.format, image_size, cache=cache)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        """One record, or a view of several.

        Raises:
            DataError: the row is bad; the message starts with `file:line`.
        """
        if isinstance(index, slice):
            return Selection(self, range(len(self))[index])
        index = range(len(self))[index]
        found = self._reader.read(self._places.line(index), int(self._places.numbers_N[index]))
        if isinstance(found, Problem):
            raise DataError(str(found))
        return found

    def scan(self, measure: Measure | None = image_size) -> Iterator[Record | Problem]:
        """Read all rows from the first to the last: a record, or why there is none, for each.

        Args:
            measure: called once for each image file; None: no image is looked at.
        """
        reader = replace(self._reader, measure=remember(measure), checks=True)
        yield from map(reader.read, self._places.lines(), map(int, self._places.numbers_N))

    def rows(self) -> Iterator[tuple[bytes, int]]:
        """The bytes of all rows, as they stand in the file, with their numbers."""
        yield from zip(self._places.lines(), map(int, self._places.numbers_N), strict=True)

    def image_paths(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Number and image paths of each row that can be read; neither images nor answers are looked at."""
        for line, number in self.rows():
            try:
                yield number, self._reader.image_paths(line)
            except DataError:  # is told when the row is checked or drawn
                continue

    def check(self, n_lines: int = CHECKED_LINES) -> list[Problem]:
        """Find bad rows among `n_lines` of the file, evenly spaced, with the headers of their images.

        If these are all, then rows and images are not checked again when they are drawn.
        """
        chosen_K = np.unique(np.linspace(0, len(self) - 1, min(n_lines, len(self))).round().astype(np.int64))
        chosen = self._places.take(chosen_K)
        reader = replace(self._reader, measure=remember(image_size), checks=True)
        rows = (chosen.lines(), map(int, chosen.numbers_N))
        if is_remote(self.source.image_root):
            with ThreadPoolExecutor(_REMOTE_REQUESTS) as pool:
                found = list(pool.map(reader.read, *rows))
        else:
            found = map(reader.read, *rows)
        problems = [problem for problem in found if isinstance(problem, Problem)]
        if len(chosen) == len(self):
            self._reader = replace(self._reader, checks=False)
        return problems


class Selection(Sequence[Record]):
    """Some records of a sequence, in another order perhaps, read when they are asked for."""

    def __init__(self, records: Sequence[Record], places: Sequence[int]) -> None:
        self._records, self._places = records, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        if isinstance(index, slice):
            return Selection(self._records, self._places[index])
        return self._records[self._places[index]]


def iter_records(
    source: DataSource, measure: Measure | None = image_size, cache: Path | None = None
) -> Iterator[Record | Problem]:
    """Yield a record or a problem for each row of a file; a file that cannot be read is one problem.

    Args:
        source: the file, of any kind and format.
        measure: called once for each image file; None: image files are not looked at, nor boxes compared with them.
        cache: as in `RecordFile`.

    Raises:
        ConfigError: unknown format.
    """
    try:
        records = RecordFile(source, cache)
    except DataError as error:
        yield Problem(source.path, str(error))
        return
    yield from records.scan(measure)


def recognise(path: str, cache: Path | None = None) -> str:
    """Name of the format in which a file would be read.

    Raises:
        DataError: the file cannot be read, or has no known format; the message names its keys and the formats.
    """
    try:
        places = find_places(local_rows(path, cache))
        name = find_format(places.lines(), AUTO)
        return recognise_row(parse_row(places.line(0))) if name == AUTO else name
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
