"""`rollouts/step-NNNNNN.parquet`: a row for every completion of a step (docs/runs.md)."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlm_r1.config.secrets import masked
from vlm_r1.errors import CheckpointError
from vlm_r1.files import read_bytes
from vlm_r1.parsing.json_values import is_object
from vlm_r1.parsing.messages import is_context
from vlm_r1.runtime.atomic import replacing
from vlm_r1.runtime.checkpoint import numbered
from vlm_r1.runtime.text import json_text, writable
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
        ("context", pa.string()),
    ]
)
_LATER = {"extra": "{}", "context": "[]"}
"""Columns that files of earlier versions lack → their default values."""

_MAY_BE_NULL = ("reward_name", "reward", "advantage", "reason")
_NO_PARQUET = (OSError, ValueError, KeyError, TypeError, NotImplementedError, MemoryError, RecursionError)
"""Exceptions of Arrow on a damaged file."""

_LARGEST_FLOAT = int(sys.float_info.max)

JSON_COLUMNS = ("gold", "answer", "parts", "metrics", "extra", "context")


@dataclass(frozen=True)
class RolloutRow:
    """One logged completion; `gold`, `answer`, `parts`, `metrics`, `extra` and `context` are decoded.

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
        context: the messages before the question (`Record.context`); empty in files of older versions.
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
    context: tuple[dict[str, str], ...] = ()


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
    rows = [writable(row) for index, group in enumerate(groups) for row in _rows(step, index, group)]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_rollouts(path: Path) -> list[RolloutRow]:
    """Read the completions of a step, in the order written.

    Raises:
        CheckpointError: the file is missing, is not Parquet, lacks a column of docs/runs.md, or holds a value that is
            not of its column's type.
    """
    try:
        file: Any = io.BytesIO(read_bytes(path))
        logged = pq.read_schema(file).names
        columns = [name for name in SCHEMA.names if name in logged or name not in _LATER]
        table: Any = pq.read_table(file, columns=columns)
        schema: Any = SCHEMA
        rows = table.select(columns).cast(pa.schema([schema.field(name) for name in columns])).to_pylist()
    except _NO_PARQUET as error:
        raise CheckpointError(
            f"{path}: no rollouts can be read: {error}. Wanted a Parquet file with columns {', '.join(SCHEMA.names)}"
        ) from error
    return [_decoded(f"{path}: row {number}", _LATER | row) for number, row in enumerate(rows)]


def _rows(step: int, index: int, group: Group) -> Iterator[dict[str, Any]]:
    record = group.record
    shared = {
        "step": step,
        "group": index,
        "record_id": record.id,
        "source": record.source,
        "task": record.task,
        "problem": record.problem,
        "images": list(record.images),
        "image_sizes": [list(frame.original_wh) for frame in group.encoded.frames],
        "input_sizes": [list(frame.input_wh) for frame in group.encoded.frames],
        "box_format": group.encoded.box_format.value,
        "template": group.encoded.template,
        "reward_name": record.reward and masked(record.reward),
        "gold": json_text(record.answer),
        "prompt": group.encoded.text,
        "context": json_text(record.context),
    }
    for completion, rollout in enumerate(group.rollouts):
        score = rollout.score
        yield shared | {
            "completion": completion,
            "text": rollout.completion.text,
            "answer": json_text(score.answer),
            "reward": score.reward,
            "parts": json_text(dict(score.parts)),
            "metrics": json_text(dict(score.metrics)),
            "extra": json_text(dict(score.extra)),
            "reason": score.reason,
            "advantage": rollout.advantage,
            "tokens": len(rollout.completion.ids_T),
            "stop_reason": rollout.completion.stop_reason.value,
        }


def _decoded(where: str, row: dict[str, Any]) -> RolloutRow:
    if empty := [name for name, value in row.items() if value is None and name not in _MAY_BE_NULL]:
        raise CheckpointError(f"{where}: {empty[0]} is null; wanted a value (docs/runs.md)")
    decoded: dict[str, Any] = {name: _value(where, name, row[name]) for name in JSON_COLUMNS}
    for name in ("parts", "metrics"):
        decoded[name] = {key: math.nan if value is None else value for key, value in decoded[name].items()}
    for name in ("reward", "advantage"):
        decoded[name] = math.nan if row[name] is None else row[name]
    for name in ("image_sizes", "input_sizes"):
        decoded[name] = tuple(_size(where, name, size) for size in row[name])
    if None in row["images"] or not len(row["images"]) == len(row["image_sizes"]) == len(row["input_sizes"]):
        raise CheckpointError(f"{where}: wanted a path, a size in image_sizes and one in input_sizes for each image")
    decoded["images"] = tuple(row["images"])
    return RolloutRow(**(row | decoded))


def _value(where: str, name: str, text: str) -> Any:
    """Decode a column of JSON; parts, metrics and extra are objects, and the first two hold numbers."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: {name} is not JSON: {error}") from error
    if name not in ("gold", "answer", "context") and not is_object(value):
        raise CheckpointError(f"{where}: {name} is {value!r:.80}; wanted a JSON object")
    if name == "context":
        if not is_context(value):
            raise CheckpointError(f"{where}: context is {value!r:.80}; wanted a list of role and content")
        return tuple(value)
    if name in ("parts", "metrics") and (odd := [v for v in value.values() if not _is_number(v)]):
        raise CheckpointError(f"{where}: {name} holds {odd[0]!r:.80}; wanted numbers")
    return value


def _is_number(value: object) -> bool:
    """Return whether a value is None, which stands for NaN, or a number that a float can hold."""
    return value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < _LARGEST_FLOAT)


def _size(where: str, name: str, size: list[int | None] | None) -> tuple[int, int]:
    match size:
        case [int(width), int(height)]:
            return width, height
        case _:
            raise CheckpointError(f"{where}: {name} holds {size!r:.80}; wanted [width, height]")
