"""Functions that all box tasks share: they wrap a bare question, and read the gold answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

from vlm_r1.errors import DataError
from vlm_r1.geometry.boxes import area
from vlm_r1.parsing.gold_boxes import misordered_boxes
from vlm_r1.types import IMAGE_TOKEN, Box, Parsed, ParseFailure, Record

V = TypeVar("V")


def wrap(record: Record, sentence: str) -> str:
    """Put the problem into the `{}` of a sentence, images first; a problem that mentions boxes stays as it is.

    >>> wrap(Record("1", "rec", "<image>the cat.", ("a.png",), None), "Where is {}?")
    '<image>Where is the cat?'
    """
    problem = record.problem.lower()
    if "bbox" in problem or "bounding box" in problem:
        return record.problem
    return IMAGE_TOKEN * len(record.images) + sentence.format(
        record.problem.replace(IMAGE_TOKEN, "").strip().rstrip(".")
    )


def read_gold(
    record: Record,
    parse: Callable[[str], Parsed[V] | ParseFailure],
    boxes: Callable[[V], tuple[Box, ...]],
    *,
    what: str,
    form: str,
) -> V:
    """Read a gold answer of boxes, a JSON value or its text, by the same rule as a model's answer.

    Args:
        parse: the rule of the task.
        boxes: returns all boxes of an answer.
        what, form: kind and form of the answer, for the error message, e.g. "box" and "[x1, y1, x2, y2]".

    Raises:
        DataError: there is not exactly one image, the answer is unreadable, or a box has no area or swapped corners.
    """
    if len(record.images) != 1:
        raise DataError(f"{record.source}: task {record.task} wants exactly 1 image, got {len(record.images)}")
    text = record.answer if isinstance(record.answer, str) else json.dumps(record.answer)
    parsed = parse(text)
    if isinstance(parsed, ParseFailure):
        raise DataError(
            f"{record.source}: the gold answer {text:.200} is no {what} ({parsed.reason}); wanted {form} in pixels of "
            "the original image"
        )
    if disorder := misordered_boxes(record.answer):
        raise DataError(f"{record.source}: the gold {disorder}")
    for box in boxes(parsed.value):
        if area(box) == 0:
            raise DataError(
                f"{record.source}: the gold box {list(box)} has no area, so no answer could match it; "
                "wanted x1 < x2 and y1 < y2"
            )
    return parsed.value
