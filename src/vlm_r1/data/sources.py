"""Several data files, each with its own images, task and reward, as one sequence of records."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import overload

import numpy as np

from vlm_r1.config.schema import DataSource
from vlm_r1.data.images import is_remote
from vlm_r1.data.records import CHECKED_LINES, RecordFile, Selection
from vlm_r1.data.rows import Problem, summarise
from vlm_r1.errors import DataError
from vlm_r1.types import Record


class Sources(Sequence[Record]):
    """Files one after another; records are parsed when they are asked for, and slices are views.

    Attributes:
        parts: the files, in order.
    """

    def __init__(self, parts: Sequence[RecordFile]) -> None:
        self.parts = tuple(parts)
        self._ends_S = np.cumsum([0, *map(len, self.parts)])

    def __len__(self) -> int:
        return int(self._ends_S[-1])

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        if isinstance(index, slice):
            return Selection(self, range(len(self))[index])
        index = range(len(self))[index]
        part = int(np.searchsorted(self._ends_S, index, side="right")) - 1
        return self.parts[part][index - int(self._ends_S[part])]


def evenly(records: Sequence[Record], most: int = CHECKED_LINES) -> Sequence[Record]:
    """All records, or of more than `most` at most so many, evenly spaced."""
    return records[:: max(1, -(-len(records) // most))]


def shared_pictures(train: Sources, held_out: Mapping[str, Sources]) -> dict[str, int]:
    """How many records of each held-out set show a picture that is trained on, by the path of its file.

    Links to folders are followed. All rows are looked at, however long the files. (Copies under other names:
    `vlm-r1 data check --against`.)
    """
    shown = {name: list(_pictures(held)) for name, held in held_out.items()}
    asked = {path for records in shown.values() for paths in records for path in paths}
    if not asked:
        return dict.fromkeys(held_out, 0)
    shared = {path for paths in _pictures(train) for path in paths if path in asked}
    return {name: sum(not shared.isdisjoint(paths) for paths in records) for name, records in shown.items()}


def _pictures(sources: Sources) -> Iterator[list[str]]:
    """The pictures of each record, a path always written alike."""
    real_folder = cache(os.path.realpath)
    for part in sources.parts:
        for _, paths in part.image_paths():
            split = (path.rpartition("/") for path in paths)
            yield [
                path if is_remote(path) else f"{real_folder(folder)}/{name}"
                for path, (folder, _, name) in zip(paths, split, strict=True)
            ]


def load_sources(sources: Sequence[DataSource], cache: Path | None = None) -> Sources:
    """Open files one after another, in the order given, and check their rows and the headers of their images.

    Files of at most `CHECKED_LINES` rows are checked whole. Of a longer one so many are checked, evenly spaced;
    another bad row raises a DataError that names it when it is drawn.

    Args:
        sources: the files.
        cache: folder for the rows and images of tables; None: `hub.cache_folder()`.

    Raises:
        ConfigError: unknown format.
        DataError: names the bad lines of all files together, so that one run finds them all.
    """
    parts: list[RecordFile] = []
    problems: list[Problem] = []
    for source in sources:
        try:
            parts.append(RecordFile(source, cache))
        except DataError as error:
            problems.append(Problem(source.path, str(error)))
            continue
        problems += parts[-1].check()
    if problems:
        raise DataError(summarise(problems))
    return Sources(parts)
