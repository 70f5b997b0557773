"""Scoring of whole files: rows are read one by one, scored in several processes, and written to one file."""

from __future__ import annotations

import codecs
import json
import math
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import Any

from vlm_r1.errors import DataError
from vlm_r1.files import open_regular
from vlm_r1.parsing.json_values import beyond_bounds, is_object
from vlm_r1.runtime.atomic import replacing
from vlm_r1.runtime.rollout_log import list_rollouts, read_rollouts
from vlm_r1.runtime.text import json_text
from vlm_r1.scoring.rows import RowScore, check_row, score_rows
from vlm_r1.scoring.settings import Row, Scoring, reward_name

MAX_LISTED = 20
"""Number of bad lines, and of reasons for missing scores, that are printed; the others are only counted."""

TOLERANCE = 1e-6
"""Greatest difference at which a score counts as equal to the `official` score of its row."""

_ROWS_AT_ONCE = 256


@dataclass
class Tally:
    """The scores of one reward.

    Attributes:
        rows: number of rows with this reward.
        scored: number of rows with a score.
        total: sum of the scores.
        compared, equal: number of rows with the original's score (`official`), and of those with the same score.
    """

    rows: int = 0
    scored: int = 0
    total: float = 0.0
    compared: int = 0
    equal: int = 0


@dataclass
class Summary:
    """The result of a file: a tally for each reward, and the first reasons for missing scores."""

    tallies: dict[str, Tally] = field(default_factory=dict[str, Tally])
    reasons: list[str] = field(default_factory=list[str])


def check_file(path: Path, scoring: Scoring) -> int:
    """Check every row before any is scored, and count the rows.

    Args:
        path: JSONL; a Parquet file of rollouts, a folder of them, or a run folder.

    Raises:
        DataError: some lines are bad (the message has the first 20 and the number of others), or there are no rows.
        ConfigError: a row names an unknown reward, task or template.
    """
    rows, problems = 0, list[str]()
    for source, row in read_rows(path):
        rows += 1
        try:
            check_row(source, _checked(source, row), scoring)
        except DataError as error:
            problems.append(str(error))
    if problems:
        rest = [f"… and {len(problems) - MAX_LISTED} more, {len(problems)} in all"]
        raise DataError("\n".join(problems[:MAX_LISTED] + rest * (len(problems) > MAX_LISTED)))
    if not rows:
        raise DataError(f"{path}: holds nothing to score; wanted JSON lines, or rollouts (step-*.parquet)")
    return rows


def score_file(
    path: Path, out: Path | None, scoring: Scoring, *, workers: int = 1, advance: Callable[[int], None] = lambda _: None
) -> Summary:
    """Score every row of a file that has passed `check_file`, and write each with its `score` into `out`.

    Args:
        out: JSONL, in the order of the rows for any number of workers; it is created only when all rows are scored.
            None: nothing is written.
        workers: number of processes; 1: this process.
        advance: called with the number of rows just scored, for a progress bar.

    Raises:
        CheckpointError: `out` cannot be written.
    """
    summary = Summary()
    rows = ((source, _checked(source, row)) for source, row in read_rows(path))
    with _lines_into(out) as write:
        for chunk, scores in _in_order(partial(score_rows, scoring=scoring), _chunks(rows), workers):
            for (_, row), score in zip(chunk, scores, strict=True):
                write(_line({**row, "score": score.score}))
                _count(summary, reward_name(row, scoring) or "(the task's own)", row, score)
            advance(len(chunk))
    return summary


@contextmanager
def _lines_into(out: Path | None) -> Generator[Callable[[bytes], object]]:
    """Yield what writes a line into a file, which is there when the block has succeeded; None: it does nothing."""
    if out is None:
        yield lambda _: None
        return
    with replacing(out) as temporary, temporary.open("wb") as file:
        yield file.write


def read_rows(path: Path) -> Iterator[tuple[str, Row | Exception]]:
    """Yield the source (`file:line`) and content of each line that is not blank, or of each logged rollout.

    The content of a line that is not a JSON object is the DataError that says so.
    """
    files = list_rollouts(path) or list_rollouts(path / "rollouts")
    for file in files.values() if path.is_dir() else [path]:
        yield from _rollouts(file) if file.suffix == ".parquet" else _json_lines(file)


def _rollouts(path: Path) -> Iterator[tuple[str, Row]]:
    for number, row in enumerate(read_rollouts(path)):
        logged = dict(vars(row))
        logged["parts"] = {name: None if math.isnan(value) else value for name, value in row.parts.items()}
        logged["reward"] = None if math.isnan(row.reward) else row.reward
        yield f"{path}:{number}", logged


def _json_lines(path: Path) -> Iterator[tuple[str, Row | Exception]]:
    for number, line in enumerate(_lines(path), start=1):
        content = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if content.strip():
            yield f"{path}:{number}", _parsed(content, f"{path}:{number}")


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with open_regular(path) as lines:
            yield from lines
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _parsed(line: bytes, source: str) -> Row | Exception:
    try:
        text = line.decode("utf-8")
        row = json.loads(text)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return DataError(f"{source}: not valid JSON in UTF-8: {error}. Wanted one JSON object on the line")
    if odd := beyond_bounds(row, text):
        return DataError(f"{source}: the row holds {odd}; it cannot be scored")
    return row if is_object(row) else DataError(f"{source}: got {row!r:.80}, wanted a JSON object")


def _checked(source: str, row: Row | Exception) -> Row:
    if isinstance(row, Exception):
        raise row
    return row


def _chunks(rows: Iterable[tuple[str, Row]]) -> Iterator[list[tuple[str, Row]]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, _ROWS_AT_ONCE)):
        yield chunk


def _in_order(
    function: Callable[[list[tuple[str, Row]]], list[RowScore]],
    chunks: Iterator[list[tuple[str, Row]]],
    workers: int,
) -> Iterator[tuple[list[tuple[str, Row]], list[RowScore]]]:
    """Yield each chunk with its result, in order; at most two chunks for each worker are in memory."""
    if workers == 1:
        yield from ((chunk, function(chunk)) for chunk in chunks)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
        waiting: deque[tuple[list[tuple[str, Row]], Future[list[RowScore]]]] = deque()
        for chunk in chunks:
            waiting.append((chunk, pool.submit(function, chunk)))
            if len(waiting) >= 2 * workers:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()


def _end_with_parent() -> None:
    """Let this worker end when the process that started it was killed; it would wait for rows for ever."""
    parent = parent_process()
    if parent is not None:
        Thread(target=lambda: wait([parent.sentinel]) and os._exit(1), daemon=True).start()


def _line(row: dict[str, Any]) -> bytes:
    return json_text(row).encode() + b"\n"


def _count(summary: Summary, name: str, row: Row, score: RowScore) -> None:
    tally = summary.tallies.setdefault(name, Tally())
    tally.rows += 1
    if score.score is not None:
        tally.scored += 1
        tally.total += score.score
    if score.reason is not None and len(summary.reasons) < MAX_LISTED:
        summary.reasons.append(score.reason)
    if "official" in row:
        tally.compared += 1
        tally.equal += _same(score.score, row["official"])


def _same(score: float | None, official: Any) -> bool:
    if score is None or official is None:
        return score is official
    return isinstance(official, int | float) and score - TOLERANCE <= official <= score + TOLERANCE  # of any size
