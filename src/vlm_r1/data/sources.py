"""Several data files, each with its own image folder, task and reward, as one list of records."""

from __future__ import annotations

from collections.abc import Sequence

from vlm_r1.config.schema import DataSource
from vlm_r1.data.jsonl import Problem, scan_jsonl, summarise
from vlm_r1.errors import DataError
from vlm_r1.types import Record


def load_sources(sources: Sequence[DataSource]) -> list[Record]:
    """Read files one after another, in the order given.

    Raises:
        DataError: names the bad lines of all files together, so that one run finds them all.
    """
    records: list[Record] = []
    problems: list[Problem] = []
    for source in sources:
        good, bad = scan_jsonl(source.path, image_root=source.image_root, task=source.task, reward=source.reward)
        records += good
        problems += bad
    if problems:
        raise DataError(summarise(problems))
    return records
