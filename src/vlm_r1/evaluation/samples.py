"""Samples of an evaluation: one answer to one record, as `eval/<name>.samples.jsonl` holds it (docs/runs.md).

All numbers, tables, comparisons and pages of an evaluation are computed from these files, without model and images.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from vlm_r1.errors import DataError
from vlm_r1.files import open_regular
from vlm_r1.parsing.json_values import beyond_bounds, is_list, is_number, is_object
from vlm_r1.parsing.messages import is_context, split_context
from vlm_r1.types import AnswerValue, Record

SUFFIX = ".samples.jsonl"
Size = tuple[int, int]
_TEXTS = ("record_id", "source", "task", "problem", "text", "stop_reason")


@dataclass(frozen=True)
class Sample:
    """An answer that was judged.

    Attributes:
        record_id, source, task, problem: of the record; `source` is the file and line of its data.
        images: absolute paths or URLs.
        image_sizes, input_sizes: (width, height) of each image in pixels, on disk and as the model saw it.
        box_format: the coordinates in which the model writes boxes, a value of BoxFormat.
        template: name of the template of the question.
        gold: the gold answer as in the data; boxes are in pixels of the original image.
        text: what the model wrote.
        answer: what was read from it, boxes in pixels of the original image; None: nothing could be read.
        reason: why nothing could be read, e.g. "no_box"; None if something was.
        metrics: of the task, e.g. {"accuracy_iou50": 1.0, "iou": 0.71}; zeros if nothing could be read.
        parts: the rewards by name; None: the reward left this sample out.
        tokens: length of the text in tokens.
        stop_reason: "stop"; "length" if the text was cut off; "refused" if a server gave none on purpose.
        draw: number of this answer among the k answers to its record, from 0.
        context: the messages before the question (`Record.context`).
        columns: further keys of the record that subsets are made by, e.g. {"platform": "mobile"}.
        row: the whole line.
    """

    record_id: str
    source: str
    task: str
    problem: str
    images: tuple[str, ...]
    image_sizes: tuple[Size, ...]
    input_sizes: tuple[Size, ...]
    box_format: str
    template: str
    gold: AnswerValue
    text: str
    answer: AnswerValue
    reason: str | None
    metrics: Mapping[str, float]
    parts: Mapping[str, float | None]
    tokens: int
    stop_reason: str
    draw: int = 0
    context: tuple[dict[str, str], ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict[str, Any])
    row: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False, compare=False)

    def record(self) -> Record:
        """Return the record as far as the sample knows it: enough for `Task.gold`, `Task.boxes` and `Task.parse`."""
        system, history = split_context(self.context)
        return Record(
            id=self.record_id,
            task=self.task,
            problem=self.problem,
            images=self.images,
            answer=self.gold,
            source=self.source,
            system=system,
            columns=self.columns,
            history=history,
        )

    @property
    def image_key(self) -> tuple[str, ...]:
        """The images that the sample is about: answers about the same images are no independent observations."""
        return self.images or (self.record_id,)


def samples_path(result: Path) -> Path:
    """Return where the samples of a result lie.

    >>> str(samples_path(Path("eval/after-val.json")))
    'eval/after-val.samples.jsonl'
    """
    return result.with_suffix(SUFFIX)


def result_path(samples: Path) -> Path:
    """Return where the result lies that samples belong to.

    >>> str(result_path(Path("eval/after-val.samples.jsonl")))
    'eval/after-val.json'
    """
    return samples.with_name(samples.name.removesuffix(SUFFIX) + ".json")


def read_samples(path: Path) -> Iterator[Sample]:
    """Read a file of samples, line by line.

    Raises:
        DataError: it cannot be read, or a line is none that an evaluation writes; names file and line.
    """
    try:
        with io.TextIOWrapper(open_regular(path), "utf-8") as file:
            lines = ((line, f"{path}:{number}") for number, line in enumerate(file, start=1) if line.strip())
            yield from (as_sample(_object(line, where), where) for line, where in lines)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def as_sample(row: Mapping[str, Any], where: str) -> Sample:
    """Return a line of a file of samples as a `Sample`.

    Args:
        where: file and line, for messages.

    Raises:
        DataError: a key is missing or of another type.
    """
    for key in _TEXTS:
        _check(isinstance(row.get(key), str), where, key, row, "a text")
    for key in ("metrics", "parts"):
        values: Any = row.get(key)
        numbers = is_object(values) and all(is_number(value) or value is None for value in values.values())
        _check(numbers, where, key, row, "an object with a number for each name")
    _check("gold" in row, where, "gold", row, "the gold answer")
    _check(is_number(row.get("tokens")), where, "tokens", row, "the number of tokens")
    _check(is_number(row.get("draw", 0)), where, "draw", row, "the number of the answer among those to its record")
    context: Any = row.get("context", [])
    _check(is_context(context), where, "context", row, "a list of messages with role and content")
    _check(is_object(row.get("columns") or {}), where, "columns", row, "an object with keys of the record")
    reason: Any = row.get("reason")
    _check(reason is None or isinstance(reason, str), where, "reason", row, "a text, or null")
    images: Any = row.get("images")
    _check(is_list(images) and all(isinstance(one, str) for one in images), where, "images", row, "a list of paths")
    return Sample(
        **{key: row[key] for key in _TEXTS},
        images=tuple(images),
        image_sizes=_sizes(row, "image_sizes", where),
        input_sizes=_sizes(row, "input_sizes", where),
        box_format=str(row.get("box_format", "")),
        template=str(row.get("template", "")),
        gold=row["gold"],
        answer=row.get("answer"),
        reason=reason,
        metrics={name: float(value or 0.0) for name, value in row["metrics"].items()},
        parts=row["parts"],
        tokens=int(row["tokens"]),
        draw=int(row.get("draw", 0)),
        context=tuple(context),
        columns=row.get("columns") or {},
        row=row,
    )


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: is not JSON: {error}. An evaluation writes one object a line") from error
    if not is_object(row):
        raise DataError(f"{where}: got {line:.80}; wanted an object, as an evaluation writes it")
    if beyond := beyond_bounds(row, line):
        raise DataError(f"{where}: holds {beyond}, which no evaluation writes")
    return row


def _sizes(row: Mapping[str, Any], key: str, where: str) -> tuple[Size, ...]:
    value: Any = row.get(key)
    pairs = is_list(value) and all(
        is_list(pair) and len(pair) == 2 and all(type(side) is int and side >= 0 for side in pair) for pair in value
    )
    _check(pairs, where, key, row, "[width, height] of each image")
    return tuple((pair[0], pair[1]) for pair in cast("list[list[int]]", value))


def _check(holds: bool, where: str, key: str, row: Mapping[str, Any], wanted: str) -> None:
    if not holds:
        raise DataError(f'{where}: "{key}" is {row.get(key)!s:.80}; wanted {wanted}. Is it a file of samples?')
