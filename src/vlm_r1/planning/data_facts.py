"""What a data file says about the recipe that suits it: task, units of its boxes, pictures, lengths of answers."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vlm_r1.config.data import DataSource
from vlm_r1.curation.statistics import guess_coordinates
from vlm_r1.data.images import image_size
from vlm_r1.data.options import read_options
from vlm_r1.data.records import RecordFile
from vlm_r1.data.rows import Problem, summarise
from vlm_r1.errors import ConfigError, DataError
from vlm_r1.parsing.gold_boxes import BOX_KEYS, boxes_in
from vlm_r1.parsing.json_values import is_list, is_object
from vlm_r1.types import AnswerValue, Box, Record

LOOKED_AT = 1000
"""Records that are looked at, drawn at random with a fixed seed."""

_CLEAR = 0.99
"""Share of the answers that must be of one kind, so that it says the task."""

_OPTION_KEYS = ("options", "choices", "candidates")
_YES_NO = ("yes", "no", "true", "false")


@dataclass(frozen=True)
class DataFacts:
    """Facts about a data file.

    Attributes:
        source: the file, with its task and with the options that say how its boxes are written.
        records: how many it has.
        sizes_wh: (width, height) in pixels of the pictures that were looked at.
        most_images: the greatest number of pictures of a record.
        longest: characters of the longest gold answer, with its thought.
        said: sentences about what was found out from the rows.
    """

    source: DataSource
    records: int
    sizes_wh: list[tuple[int, int]]
    most_images: int
    longest: int
    said: list[str]


def look_at_data(source: DataSource, task: str | None) -> DataFacts:
    """Look at the rows of a file and at the headers of their pictures.

    Args:
        source: path and image root; the rest is found out.
        task: the task that the user names; None: the answers say it.

    Raises:
        DataError: the file, or a row that was looked at, cannot be read; or its boxes are written in a form that cannot
            be read.
        ConfigError: the answers are of several kinds, and no task is named.
    """
    # a task without boxes reads them as they stand, whatever their unit
    plain = source.model_copy(update={"task": "vqa", "sampling_strategy": f"random:{LOOKED_AT}"})
    try:
        file = RecordFile(plain)
    except DataError as error:
        raise DataError(f"{source.path}: {error}") from error
    found = list(file.scan(None))
    if problems := [one for one in found if isinstance(one, Problem)]:
        raise DataError(summarise(problems))
    records = [one for one in found if isinstance(one, Record)]
    sizes_of = [[image_size(path, file.access) for path in record.images] for record in records]
    said: list[str] = []
    if task is None:
        task = _task_of(records, source.path)
        said.append(f"the task is {task}, as the answers look")
    boxes = [
        (box, sizes[-1]) for record, sizes in zip(records, sizes_of, strict=True) if sizes for box in _boxes(record)
    ]
    options = _how_boxes_are_written(boxes, source.path, said) if _has_boxes(task) else {}
    return DataFacts(
        source=source.model_copy(update={"task": task, **options}),
        records=file.n_found,
        sizes_wh=sorted({size for sizes in sizes_of for size in sizes}, key=math.prod),
        most_images=max(map(len, sizes_of)),
        longest=max(len(_text(record.answer)) + len(record.thought or "") for record in records),
        said=said,
    )


def kind_of_answer(record: Record) -> str:
    """Return the task that an answer looks like.

    >>> record = Record("1", "vqa", "<image>How many cats?", ("a.jpg",), "3")
    >>> kind_of_answer(record)
    'counting'
    """
    if any(read_options(record.columns[key]) for key in _OPTION_KEYS if key in record.columns):
        return "choice"
    answer = _value(record.answer)
    if isinstance(answer, bool) or (isinstance(answer, str) and answer.strip(" .").lower() in _YES_NO):
        return "yes_no"
    if is_list(answer) or is_object(answer):
        return _kind_of_boxes(answer)
    number = isinstance(answer, int | float)
    asks_for_number = any(words in record.problem.lower() for words in ("how many", "count", "number of"))
    return "counting" if number and asks_for_number else "vqa"


def _kind_of_boxes(answer: Any) -> str:
    if _is_numbers(answer, 4) or (is_object(answer) and any(key in answer for key in BOX_KEYS)):
        return "rec"
    if _is_numbers(answer, 2):
        return "gui_click"
    items: list[Any] = answer if is_list(answer) else []
    if any(is_object(item) and any(key in item for key in BOX_KEYS) and "label" in item for item in items):
        return "ovd"
    return "multi_rec" if items and any(True for _ in boxes_in(items)) else "vqa"


def _task_of(records: Sequence[Record], path: str) -> str:
    kinds = Counter(kind_of_answer(record) for record in records)
    task, n = kinds.most_common(1)[0]
    if n < _CLEAR * len(records):
        seen = ", ".join(f"{kind} ({count:,})" for kind, count in kinds.most_common())
        raise ConfigError(f"{path}: the answers look like those of several tasks: {seen}. Name one: --task {task}")
    return task


def _has_boxes(task: str) -> bool:
    return task in ("rec", "multi_rec", "ovd")


def _boxes(record: Record) -> list[Box]:
    return list(boxes_in(record.answer))


def _how_boxes_are_written(boxes: Sequence[tuple[Box, tuple[int, int]]], path: str, said: list[str]) -> dict[str, str]:
    """Return the options of the data source that turn the boxes into corners in pixels."""
    advice = guess_coordinates(boxes)
    if advice is None:
        return {}
    if "width, height" in advice:
        said.append(advice.partition(" (")[0])
        return {"box": "xywh"}
    for unit in ("norm_1000", "norm_1"):
        if advice.endswith(f"coordinates: {unit}"):
            said.append(advice.partition(":")[0])
            return {"coordinates": unit}
    raise DataError(f"{path}: {advice}. `vlm-r1 data check` shows them")


def _value(answer: AnswerValue) -> Any:
    if not isinstance(answer, str):
        return answer
    try:
        return json.loads(answer.strip().removeprefix("```json").strip("`"))
    except (ValueError, RecursionError):
        return answer


def _text(answer: AnswerValue) -> str:
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def _is_numbers(value: Any, n: int) -> bool:
    return is_list(value) and len(value) == n and all(type(number) in (int, float) for number in value)
