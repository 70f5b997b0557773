"""What the tasks share whose answers are boxes: wrapping a bare question, and reading the gold answer."""

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
    """Put the problem into the `{}` of a sentence, images first; a problem that speaks of boxes stays as it is.

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
    """Read a gold answer of boxes by the rule that reads a model's: JSON, as a list or object or as a text.

    Args:
        parse: the task's own rule.
        boxes: all boxes of an answer.
        what, form: what the answer must be, and how it is written, for the error, e.g. "box" and "[x1, y1, x2, y2]".

    Raises:
        DataError: not exactly one image, unreadable, a box without area, or one whose corners are out of order.
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
