"""Several data files, each with its own image root, task and reward, as one sequence of records."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from vlm_r1.config.data import NOTHING, Allowed, DataSource
from vlm_r1.data.images import is_remote
from vlm_r1.data.records import CHECKED_LINES, LazyRecords, RecordFile
from vlm_r1.data.rows import Problem, summarise
from vlm_r1.errors import DataError, DataFileError
from vlm_r1.types import Record


class Sources(LazyRecords):
    """The records of several files in sequence, parsed on access.

    Attributes:
        files: the files, in order.
        bad: `file:line` of rows that were found bad or too long but left in their place.
        overlong: of a sample of the records, how many have too long prompts, and how many were measured; (0, 0): these
            records are left out of the files, or nobody measured.
    """

    def __init__(
        self, files: Sequence[RecordFile], bad: Collection[str] = (), overlong: tuple[int, int] = (0, 0)
    ) -> None:
        self.files = tuple(files)
        self.bad = frozenset(bad)
        self.overlong = overlong
        self._ends_S = np.cumsum([0, *map(len, self.files)])

    def __len__(self) -> int:
        return int(self._ends_S[-1])

    @property
    def n_overlong(self) -> int:
        """How many records were left out of the files because their prompts are too long."""
        return sum(file.n_overlong for file in self.files)

    def _record(self, index: int) -> Record:
        file = int(np.searchsorted(self._ends_S, index, side="right")) - 1
        return self.files[file][index - int(self._ends_S[file])]


def evenly(records: Sequence[Record], most: int = CHECKED_LINES) -> Sequence[Record]:
    """Return all records, or at most `most` evenly spaced ones, without those that are known to be bad."""
    chosen = records[:: max(1, -(-len(records) // most))]
    return list(readable(chosen, records.bad)) if isinstance(records, Sources) and records.bad else chosen


def readable(records: Sequence[Record], bad: Collection[str] = ()) -> Iterator[Record]:
    """Yield the records whose rows can be read, without those that are known to be bad."""
    for index in range(len(records)):
        try:
            record = records[index]
        except DataFileError:
            raise
        except DataError:
            continue
        if record.source not in bad:
            yield record


def most_bad_records(limit: float, n_records: int) -> int:
    """Return how many records may be bad: a whole number is a count, a fraction a share, of which at least one.

    >>> most_bad_records(3, 1000), most_bad_records(0.001, 50_000), most_bad_records(0.001, 48), most_bad_records(0, 9)
    (3, 50, 1, 0)
    """
    return int(limit) if isinstance(limit, int) or limit == 0 else max(1, int(limit * n_records))


def shared_pictures(train: Sources, held_out: Mapping[str, Sources]) -> dict[str, int]:
    """Count the records of each held-out set that show a picture of the training data, compared by path.

    Links to folders are followed. All rows of all files are read. (`vlm-r1 data check --against` also finds copies
    under other names.)
    """
    shown = {name: list(_pictures(held)) for name, held in held_out.items()}
    asked = {path for records in shown.values() for paths in records for path in paths}
    if not asked:
        return dict.fromkeys(held_out, 0)
    shared = {path for paths in _pictures(train) for path in paths if path in asked}
    return {name: sum(not shared.isdisjoint(paths) for paths in records) for name, records in shown.items()}


def _pictures(sources: Sources) -> Iterator[list[str]]:
    """Yield the picture paths of each record, with links to folders resolved."""
    real_folder = cache(os.path.realpath)
    for file in sources.files:
        for _, paths in file.image_paths():
            split = (path.rpartition("/") for path in paths)
            yield [
                path if is_remote(path) else f"{real_folder(folder)}/{name}"
                for path, (folder, _, name) in zip(paths, split, strict=True)
            ]


def load_sources(
    sources: Sequence[DataSource],
    allowed: Allowed = NOTHING,
    cache: Path | None = None,
    *,
    max_bad_records: float = 0,
    seed: int = 0,
) -> Sources:
    """Open files in the given order, and check their rows and the headers of their images.

    Files of at most `CHECKED_LINES` rows are checked whole. Of longer files that many evenly spaced rows are checked;
    any other bad row raises a DataError that names it when it is drawn.

    Args:
        sources: the files.
        allowed: what rows may name.
        cache: folder for the rows and images of tables; None: `hub.cache_folder()`.
        max_bad_records: bad rows that are left in their place (`most_bad_records`); a file that cannot be read is none.
        seed: the recipe's; it seeds a random `sampling_strategy`.

    Raises:
        ConfigError: unknown format.
        DataError: some lines are bad. The message has those of all files, so that one run finds them all.
    """
    files: list[RecordFile] = []
    problems: list[Problem] = []
    for source in sources:
        try:
            files.append(RecordFile(source, allowed, cache, seed=seed))
        except DataError as error:
            problems.append(Problem(source.path, str(error)))
            continue
        problems += files[-1].check()
    if len(files) < len(sources) or len(problems) > most_bad_records(max_bad_records, sum(map(len, files))):
        raise DataError(summarise(problems))
    return Sources(files, [problem.source for problem in problems])
