"""`rollouts/step-NNNNNN.parquet`: a row for every completion of a step (docs/runs.md)."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlm_r1.errors import CheckpointError
from vlm_r1.files import read_bytes
from vlm_r1.runtime.atomic import replacing
from vlm_r1.runtime.checkpoint import numbered
from vlm_r1.types import AnswerValue, Group

SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("group", pa.int64()),
        ("completion", pa.int64()),
        ("record_id", pa.string()),
        ("source", pa.string()),
        ("task", pa.string()),
        ("problem", pa.string()),
        ("images", pa.list_(pa.string())),
        ("image_sizes", pa.list_(pa.list_(pa.int64()))),
        ("input_sizes", pa.list_(pa.list_(pa.int64()))),
        ("box_format", pa.string()),
        ("template", pa.string()),
        ("reward_name", pa.string()),
        ("gold", pa.string()),
        ("prompt", pa.string()),
        ("text", pa.string()),
        ("answer", pa.string()),
        ("reward", pa.float64()),
        ("parts", pa.string()),
        ("metrics", pa.string()),
        ("reason", pa.string()),
        ("advantage", pa.float64()),
        ("tokens", pa.int64()),
        ("stop_reason", pa.string()),
        ("extra", pa.string()),
    ]
)
_LATER = {"extra": "{}"}
"""Columns that files of earlier versions lack → their default values."""

JSON_COLUMNS = ("gold", "answer", "parts", "metrics", "extra")


@dataclass(frozen=True)
class RolloutRow:
    """One logged completion; `gold`, `answer`, `parts`, `metrics` and `extra` are decoded.

    Attributes:
        step: number of the step, from 1.
        group: index of the group in the step, from 0.
        completion: index of the completion in the group, from 0.
        images: absolute paths of the images.
        image_sizes: (width, height) in pixels of each image on disk, e.g. ((640, 480),).
        input_sizes: (width, height) of each image as the model saw it, e.g. ((644, 476),).
        box_format: the coordinates of the boxes in `text`, a value of BoxFormat.
        template: name of the prompt's template.
        reward_name: the accuracy reward that the record or its source names; None: the task's own.
        gold: the gold answer, boxes in pixels of the original image.
        answer: the parsed answer, boxes in pixels of the original image; None if nothing could be parsed.
        reward: the reward; NaN if all components left the completion out.
        parts: the components of the reward, by name; NaN for those that left the completion out.
        reason: why nothing could be parsed, or None.
        tokens: number of tokens of the completion.
        stop_reason: "stop" or "length".
        extra: further values that rewards logged, by name; empty in files of older versions.
    """

    step: int
    group: int
    completion: int
    record_id: str
    source: str
    task: str
    problem: str
    images: tuple[str, ...]
    image_sizes: tuple[tuple[int, int], ...]
    input_sizes: tuple[tuple[int, int], ...]
    box_format: str
    template: str
    reward_name: str | None
    gold: AnswerValue
    prompt: str
    text: str
    answer: AnswerValue
    reward: float
    parts: dict[str, float]
    metrics: dict[str, float]
    reason: str | None
    advantage: float
    tokens: int
    stop_reason: str
    extra: dict[str, AnswerValue] = field(default_factory=dict[str, AnswerValue])


def rollouts_path(run_dir: Path, step: int) -> Path:
    """Return the path of the file with the completions of a step.

    >>> rollouts_path(Path("run"), 12).as_posix()
    'run/rollouts/step-000012.parquet'
    """
    return run_dir / "rollouts" / f"step-{step:06d}.parquet"


def list_rollouts(folder: Path) -> dict[int, Path]:
    """Return the rollout files of a folder by step, in order; files with other names, such as copies, are none."""
    found = {numbered(path.stem): path for path in sorted(folder.glob("step-*.parquet"))}
    return dict(sorted((step, path) for step, path in found.items() if step is not None))


def write_rollouts(path: Path, step: int, groups: Sequence[Group]) -> None:
    """Atomically write all completions of a step, group after group.

    Args:
        path: the file, see `rollouts_path`; its folder is created.
        step: number of the step, from 1.
        groups: groups with scores and advantages.

    Raises:
        CheckpointError: the file cannot be written.
    """
    rows = [row for index, group in enumerate(groups) for row in _rows(step, index, group)]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_rollouts(path: Path) -> list[RolloutRow]:
    """Read the completions of a step, in the order written.

    Raises:
        CheckpointError: the file is missing, is not Parquet, or lacks a column of docs/runs.md.
    """
    try:
        file: Any = io.BytesIO(read_bytes(path))
        logged = pq.read_schema(file).names
        table = pq.read_table(file, columns=[name for name in SCHEMA.names if name in logged or name not in _LATER])
        return [_decoded(_LATER | row) for row in table.to_pylist()]
    except (OSError, ValueError, KeyError) as error:  # the errors of Arrow and JSON are ValueErrors
        raise CheckpointError(
            f"{path}: no rollouts can be read: {error}. Wanted a Parquet file with columns {', '.join(SCHEMA.names)}"
        ) from error


def _rows(step: int, index: int, group: Group) -> Iterator[dict[str, Any]]:
    record = group.record
    shared = {
        "step": step,
        "group": index,
        "record_id": _utf8(record.id),
        "source": _utf8(record.source),
        "task": record.task,
        "problem": _utf8(record.problem),
        "images": [_utf8(path) for path in record.images],
        "image_sizes": [list(frame.original_wh) for frame in group.encoded.frames],
        "input_sizes": [list(frame.input_wh) for frame in group.encoded.frames],
        "box_format": group.encoded.box_format.value,
        "template": group.encoded.template,
        "reward_name": record.reward,
        "gold": _json(record.answer),
        "prompt": _utf8(group.encoded.text),
    }
    for completion, rollout in enumerate(group.rollouts):
        score = rollout.score
        yield shared | {
            "completion": completion,
            "text": _utf8(rollout.completion.text),
            "answer": _json(score.answer),
            "reward": score.reward,
            "parts": _json(dict(score.parts)),
            "metrics": _json(dict(score.metrics)),
            "extra": _json(dict(score.extra)),
            "reason": score.reason,
            "advantage": rollout.advantage,
            "tokens": len(rollout.completion.ids_T),
            "stop_reason": rollout.completion.stop_reason.value,
        }


def _decoded(row: dict[str, Any]) -> RolloutRow:
    decoded = {name: json.loads(row[name]) for name in JSON_COLUMNS}
    for name in ("parts", "metrics"):
        decoded[name] = {key: math.nan if value is None else value for key, value in decoded[name].items()}
    decoded["reward"] = math.nan if row["reward"] is None else row["reward"]
    tuples: dict[str, Any] = {name: tuple((w, h) for w, h in row[name]) for name in ("image_sizes", "input_sizes")}
    tuples["images"] = tuple(row["images"])
    return RolloutRow(**(row | decoded | tuples))


def _json(value: Any) -> str:
    """Write any value from a model as strict JSON: without NaN, lone surrogates and too deep nesting."""
    try:
        return _utf8(json.dumps(_finite(value), ensure_ascii=False, allow_nan=False))
    except RecursionError:
        return '"(nested too deeply to be written)"'


def _finite(value: AnswerValue | tuple[AnswerValue, ...]) -> AnswerValue:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return value


def _utf8(text: str) -> str:
    """Replace lone surrogates, which JSON escapes can produce and files cannot hold, by `?`."""
    return text.encode("utf-8", "replace").decode("utf-8")
