"""Boxes of answers, and how well they would fit if they were written in other coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vlm_r1.geometry.boxes import iou
from vlm_r1.geometry.frames import from_original, to_original
from vlm_r1.parsing.json_values import is_list, is_number, is_object
from vlm_r1.types import AnswerValue, Box, BoxFormat, ImageFrame

MOST_BOXES = 20
"""Boxes of an answer that are compared with the truth; a model that writes hundreds costs no more."""

GOOD_OVERLAP = 0.3
"""Mean IoU at which nothing is wrong with the coordinates, so that the other ways to read them are not tried."""

_LARGEST_PX = 1e9


def boxes_in(answer: AnswerValue) -> tuple[Box, ...]:
    """Return the boxes of an answer as rollout files hold it: a box, or a list of boxes with or without labels.

    >>> boxes_in([1, 2, 3, 4]), boxes_in([{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]), boxes_in("None")
    (((1.0, 2.0, 3.0, 4.0),), ((1.0, 2.0, 3.0, 4.0),), ())
    """
    one = _box(answer)
    if one is not None:
        return (one,)
    items: list[Any] = answer if is_list(answer) else []
    return tuple(box for item in items if (box := _box(item)) is not None)


def _box(item: Any) -> Box | None:
    value: Any = item.get("bbox_2d") if is_object(item) else item
    if not is_list(value) or len(value) != 4 or not all(is_number(n) and abs(n) < _LARGEST_PX for n in value):
        return None
    x1, y1, x2, y2 = map(float, value)
    return (x1, y1, x2, y2)


def overlaps(boxes: Sequence[Box], gold: Sequence[Box], frame: ImageFrame, box_format: BoxFormat) -> dict[str, float]:
    """Return how well the boxes fit the true ones, by the name of the coordinates that they may be written in.

    The number is the mean over the true boxes of the largest IoU with a box. The boxes were read as `box_format`. The
    others are tried only if that fits badly.

    Args:
        boxes, gold: in pixels of the original image; at least one each.

    >>> frame = ImageFrame((500, 500), (500, 500))
    >>> overlaps([(50, 50, 100, 100)], [(25, 25, 50, 50)], frame, BoxFormat.INPUT_PIXELS)["norm_1000"]
    1.0
    """
    boxes = boxes[:MOST_BOXES]
    found = {box_format.value: _fit(boxes, gold)}
    if found[box_format.value] >= GOOD_OVERLAP:
        return found
    written = [from_original(box, frame, box_format) for box in boxes]
    for other in BoxFormat:
        if other is not box_format:
            found[other.value] = _fit([to_original(box, frame, other) for box in written], gold)
    return found


def _fit(boxes: Sequence[Box], gold: Sequence[Box]) -> float:
    return sum(max(iou(box, true) for box in boxes) for true in gold[:MOST_BOXES]) / min(len(gold), MOST_BOXES)
