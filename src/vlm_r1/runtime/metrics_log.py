"""`metrics.jsonl`: one flat JSON object per step (docs/runs.md), appended in training and truncated on resume."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from vlm_r1.errors import CheckpointError
from vlm_r1.files import read_bytes
from vlm_r1.parsing.json_values import LARGEST, is_object
from vlm_r1.runtime.atomic import replacing
from vlm_r1.runtime.text import json_text

MetricsRow = dict[str, float | str]

_LISTED = 10


def append_metrics(path: Path, row: Mapping[str, float | str]) -> None:
    """Append one line and force it to the disk, so that it survives a kill.

    Numbers that are not finite are written as `null`, so that every line is strict JSON.

    Args:
        path: `metrics.jsonl`; created if it does not exist.
        row: a flat mapping with `step` and `stage`, e.g. {"step": 1, "stage": "grpo", "reward/mean": 0.4}.

    Raises:
        CheckpointError: the file cannot be written.
    """
    try:
        with path.open("ab") as file:
            file.write(_line(row))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written: {error.strerror}. Wanted a writable folder with free space"
        ) from error


def read_metrics(path: Path) -> list[MetricsRow]:
    """Read all rows in file order; `null` becomes NaN, and an incomplete last line after a kill is left out.

    Raises:
        CheckpointError: the file cannot be read, or a line other than the last is not a JSON object with a step.
    """
    try:
        lines = read_bytes(path).splitlines()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    rows: list[MetricsRow] = []
    for number, line in enumerate(lines, start=1):
        row = _parse(line)
        if row is not None:
            rows.append(row)
        elif number < len(lines):
            raise CheckpointError(
                f'{path}:{number}: wanted a JSON object of numbers and texts with a "step", got {line[:80]!r}. '
                "Only the last line may be torn; remove the line to go on"
            )
    return rows


def truncate_after(path: Path, step: int) -> None:
    """Atomically drop rows of steps after `step` and an incomplete last line; a missing file stays missing.

    Resuming from the checkpoint of `step` does this first, so that no step is logged twice.

    Raises:
        CheckpointError: the file cannot be read or written.
    """
    if not path.exists():
        return
    kept = [_line(row) for row in read_metrics(path) if float(row["step"]) <= step]
    with replacing(path) as temporary:
        temporary.write_bytes(b"".join(kept))


def check_steps(path: Path, step: int) -> None:
    """Check that a run which goes on after `step` has one row for each step from 1 to `step`, in order.

    Raises:
        CheckpointError: the file cannot be read, or lacks or repeats steps; the message names them.
    """
    if not step:
        return
    logged = [int(row["step"]) for row in read_metrics(path) if float(row["step"]) <= step]
    if logged == list(range(1, step + 1)):
        return
    counts = Counter(logged)
    missing = [number for number in range(1, step + 1) if not counts[number]]
    repeated = [number for number, count in counts.items() if count > 1]
    wrong = (
        f"lacks steps {_listed(missing)}"
        if missing
        else f"repeats steps {_listed(repeated)}"
        if repeated
        else ("has its steps in another order")
    )
    raise CheckpointError(
        f"{path}: {wrong}, but the run goes on after step {step}, so wanted one line for each step from 1 to {step}. "
        "Restore the file, or start a new run"
    )


def _listed(steps: Sequence[int]) -> str:
    """The first steps, for an error message."""
    more = f", … ({len(steps)})" if len(steps) > _LISTED else ""
    return ", ".join(map(str, steps[:_LISTED])) + more


def _line(row: Mapping[str, float | str]) -> bytes:
    return json_text(dict(row)).encode() + b"\n"


def _parse(line: bytes) -> MetricsRow | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # bad JSON, bytes that are not UTF-8, or a thousand brackets
        return None
    if not is_object(row) or type(row.get("step")) is not int or not all(map(_is_value, row.values())):
        return None
    return {key: math.nan if value is None else value for key, value in row.items()}


def _is_value(value: object) -> bool:
    """Return whether a value is a text, null, or a number that a float can hold."""
    if type(value) is int:
        return abs(value) < LARGEST
    return value is None or isinstance(value, float | str)
