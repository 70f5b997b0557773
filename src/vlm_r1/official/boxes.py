"""The original's IoU, and its reward for a single box."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from vlm_r1.official.gold import Gold
from vlm_r1.official.texts import in_tags

BOX = re.compile(r"\[(\d+),\s*(\d+),\s*(\d+),\s*(\d+)]")
"""Four bracketed integers."""


def rec_iou(completion: str, gold: Gold, *, resized: bool) -> float | None:
    """IoU of the first four bracketed integers of the first answer with the gold box; 0 for everything else.

    Args:
        completion: the text of the completion.
        gold: a box in pixels of the image on disk.
        resized: whether the model's box is in pixels of the resized image, and must be scaled to the image on disk.

    >>> rec_iou("<answer>[0, 0, 10, 10]</answer>", Gold([5, 0, 15, 10]), resized=False)
    0.3333333333333333
    """
    try:
        box = json.loads(in_tags(gold.text)[-1].strip())
        scales = _scales(gold) if resized else (1, 1)
    except (ValueError, TypeError, RecursionError):
        return None
    answers = in_tags(completion)
    found = BOX.search(answers[0]) if answers else None
    if found is None:
        return 0.0
    try:
        numbers = [int(number) for number in found.groups()]
        return pixel_iou([number * scales[i % 2] for i, number in enumerate(numbers)] if resized else numbers, box)
    except (ValueError, TypeError, LookupError, ArithmeticError):  # 5,000 digits; a gold that is no box; no union
        return 0.0


def pixel_iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of boxes that include their last pixel, except in the union.

    The overlap is measured between inclusive edges and then widened by one pixel. This would be the ordinary IoU, but
    overlaps of one pixel or less in either direction count as none.

    Raises:
        ZeroDivisionError: neither box has an area.

    >>> pixel_iou((0, 0, 10, 10), (9, 0, 19, 10)), pixel_iou((0, 0, 10, 10), (8, 0, 18, 10))  # 20 / 180
    (0.0, 0.1111111111111111)
    """
    width = min(a[2] - 1, b[2] - 1) - max(a[0], b[0])
    height = min(a[3] - 1, b[3] - 1) - max(a[1], b[1])
    shared = (width + 1) * (height + 1) if width > 0 and height > 0 else 0
    return float(shared) / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def _scales(gold: Gold) -> tuple[float, float]:
    if gold.image_size is None or gold.model_input_size is None:
        raise TypeError("no sizes")
    (width, height), (input_width, input_height) = gold.image_size, gold.model_input_size
    return width / input_width, height / input_height
