"""What samples hold, as values: the gold answer of a task, and the answer as it was read.

A file of samples may come from elsewhere, so what does not have the form of its task is a `DataError` that names the
record. No function here looks at the gold answer to decide how an answer is read.
"""

from __future__ import annotations

import math
from typing import Any

from vlm_r1.errors import DataError
from vlm_r1.evaluation.protocol import Reading
from vlm_r1.evaluation.samples import Sample
from vlm_r1.geometry.boxes import area
from vlm_r1.geometry.frames import to_original
from vlm_r1.official import official_score
from vlm_r1.official.boxes import pixel_iou
from vlm_r1.official.evaluation import box_of_baseline, box_of_r1, objects_of
from vlm_r1.parsing.boxes import parse_candidates
from vlm_r1.parsing.json_values import is_list, is_number, is_object
from vlm_r1.parsing.labelled_boxes import LabelledBox
from vlm_r1.parsing.normal_form import normalize_label
from vlm_r1.parsing.tags import split_tags
from vlm_r1.tasks import TASKS, Task, get_task
from vlm_r1.tasks.ovd import Ovd
from vlm_r1.tasks.rec import Rec
from vlm_r1.types import Box, BoxFormat, ImageFrame, ParseFailure

LARGEST_PX = 1e100
"""Bound of a coordinate, so that areas and products of areas are finite."""

Objects = tuple[LabelledBox, ...]


def task_of(sample: Sample, trusted: str | None = None) -> Task[Any, Any] | None:
    """Return the task of a sample; None if it is code that nobody has named but the sample.

    Args:
        trusted: the name of a task that the user or the protocol gave, which may be code.
    """
    return get_task(sample.task) if sample.task in TASKS or sample.task == trusted else None


def gold_objects(sample: Sample, trusted: str | None = None) -> Objects:
    """Return the gold objects of a sample of the task `ovd`, or of a variant of it.

    Raises:
        DataError: it has another task, or its gold answer is no list of labelled boxes.
    """
    task = task_of(sample, trusted)
    if not isinstance(task, Ovd):
        raise DataError(f"{_place(sample)}: task is {sample.task}; wanted ovd, whose answers are labelled boxes")
    return task.gold(sample.record())


def read_objects(sample: Sample) -> Objects:
    """Return the labelled boxes that were read from an answer, in pixels of the image; none if it was unreadable.

    Raises:
        DataError: the answer is no list of labelled boxes.
    """
    found: list[LabelledBox] = []
    for item in _items(sample):
        label: Any = item.get("label") if is_object(item) else None
        if not isinstance(label, str):
            raise _wrong(sample, item, 'an object {"bbox_2d": [x1, y1, x2, y2], "label": "cat"}')
        found.append(LabelledBox(label, _box(sample, item)))
    return tuple(found)


def read_boxes(sample: Sample) -> tuple[Box, ...]:
    """Return the boxes that were read from an answer of the task `multi_rec`; see `read_objects`."""
    return tuple(_box(sample, item) for item in _items(sample))


def read_box(sample: Sample) -> Box | None:
    """Return the box that was read from an answer of the task `rec`; None if it was unreadable; see `read_objects`."""
    return None if sample.answer is None else _box(sample, sample.answer)


def choose_box(sample: Sample, several: str, task: Rec) -> Box | None:
    """Read the text of an answer to `rec` once more, and choose one of its boxes.

    Args:
        task: `rec`, or a variant of it.
        several: "first" or "last" written, or "largest", of equally large ones the first.

    Returns:
        The box in pixels of the original image; None if the answer has none that can be read.

    Raises:
        DataError: the sample lacks the sizes of its image, or its box format is unknown.
    """
    tagged = split_tags(sample.text)
    # what a template asks for decides whether a text without tags is an answer; the sample has been judged by it
    text = None if sample.reason == "no_answer_tag" else (sample.text if tagged.tag_count == 0 else tagged.answer)
    found = ParseFailure("no_answer_tag") if text is None else parse_candidates(text)
    if isinstance(found, ParseFailure):
        return None
    boxes = found.value
    chosen = max(boxes, key=area) if several == "largest" else boxes[0 if several == "first" else -1]
    return task.to_pixels(chosen, frames_of(sample), _box_format(sample))


def frames_of(sample: Sample) -> tuple[ImageFrame, ...]:
    """Return the frames of the images of a sample.

    Raises:
        DataError: a size is missing or 0.
    """
    sizes = (*sample.image_sizes, *sample.input_sizes)
    complete = len(sample.image_sizes) == len(sample.input_sizes) == len(sample.images)
    if not complete or any(side < 1 for size in sizes for side in size):
        raise DataError(
            f"{_place(sample)}: image_sizes are {list(sample.image_sizes)} and input_sizes {list(sample.input_sizes)}; "
            f"wanted [width, height] for each of {len(sample.images)} images, to read boxes from the text"
        )
    return tuple(map(ImageFrame, sample.image_sizes, sample.input_sizes))


def official_value(sample: Sample, name: str) -> float | None:
    """Return what a reward function of the original VLM-R1 says of an answer; None where it fails itself.

    Args:
        name: a name of `OFFICIAL`.
    """
    frame = frames_of(sample)[0]
    return official_score(name, sample.text, sample.gold, frame.original_wh, frame.input_wh)


def official_overlap(sample: Sample, gold: Box, reading: Reading) -> float | None:
    """Return the IoU that an evaluation script of the original VLM-R1 computes; None where it stops with an error.

    Args:
        reading: "official": of models that think, "official_baseline": of the others; see `official.evaluation`.
    """
    read = box_of_r1 if reading == "official" else box_of_baseline
    try:
        overlap = pixel_iou(to_original(read(sample.text), frames_of(sample)[0], _box_format(sample)), gold)
    except (ValueError, ArithmeticError):  # numbers beyond floats; no union
        return None
    return overlap if math.isfinite(overlap) else 0.0


def official_objects(sample: Sample, gold: Objects) -> Objects:
    """Return the labelled boxes that the original VLM-R1 reads from the text of an answer.

    Labels are compared exactly there, so those that differ from a gold label only in their form are left out.
    """
    exact = {item.label for item in gold}
    forms = {normalize_label(label) for label in exact}
    frame, box_format = frames_of(sample)[0], _box_format(sample)
    return tuple(
        LabelledBox(label, to_original(box, frame, box_format))
        for label, box in objects_of(sample.text)
        if label in exact or normalize_label(label) not in forms
    )


def _items(sample: Sample) -> list[Any]:
    answer: Any = [] if sample.answer is None else sample.answer
    if not is_list(answer):
        raise _wrong(sample, answer, "a list of boxes")
    return answer


def _box(sample: Sample, item: Any) -> Box:
    numbers: Any = item.get("bbox_2d") if is_object(item) else item
    if not is_list(numbers) or len(numbers) != 4 or not all(is_number(n) and abs(n) <= LARGEST_PX for n in numbers):
        raise _wrong(sample, item, f"a box [x1, y1, x2, y2] of numbers up to {LARGEST_PX:.0e}")
    x1, y1, x2, y2 = map(float, numbers)
    return (x1, y1, x2, y2)


def _box_format(sample: Sample) -> BoxFormat:
    try:
        return BoxFormat(sample.box_format)
    except ValueError:
        known = ", ".join(member.value for member in BoxFormat)
        raise DataError(f"{_place(sample)}: box_format is {sample.box_format!r:.80}; wanted one of {known}") from None


def _wrong(sample: Sample, got: Any, wanted: str) -> DataError:
    return DataError(f"{_place(sample)}: the answer holds {got!r:.80}; wanted {wanted}. Is it a file of samples?")


def _place(sample: Sample) -> str:
    return f"sample of record {sample.record_id!r:.80} ({sample.source:.200})"
