"""Read the boxes of a gold answer as written, before corners are put in order."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import suppress

from vlm_r1.parsing.round_boxes import find_corners
from vlm_r1.types import AnswerValue, Box

BOX_KEYS = ("bbox_2d", "bbox", "box_2d")
"""Keys of an object for its box."""

_NUMBER = r"\s*+([+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?)\s*+"
_WRITTEN = re.compile(rf"\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]", re.ASCII)
_MAX_SHOWN = 3


def boxes_in(answer: AnswerValue) -> Iterator[Box]:
    """Yield all lists of four finite numbers in a gold answer or its text, and boxes in Qwen2-VL's form.

    In an object with a key such as `bbox_2d`, only that key is read.

    >>> list(boxes_in([{"bbox_2d": [1, 2, 3, 4], "label": "cat"}])), list(boxes_in("[5, 6, 7, 8]"))
    ([(1.0, 2.0, 3.0, 4.0)], [(5.0, 6.0, 7.0, 8.0)])
    """
    if isinstance(answer, str):
        with suppress(ValueError, RecursionError):
            answer = json.loads(answer) if answer.lstrip()[:1] in ("[", "{") else answer
    if isinstance(answer, str):
        yield from ((float(n[1]), float(n[2]), float(n[3]), float(n[4])) for n in _WRITTEN.finditer(answer))
        rounds = (corners.numbers for corners in find_corners(answer) if len(corners.numbers) == 4)
        yield from ((x1, y1, x2, y2) for x1, y1, x2, y2 in rounds)
        return
    if isinstance(answer, dict):
        own = [answer[key] for key in BOX_KEYS if key in answer]
        answer = own[:1] or list(answer.values())
    if not isinstance(answer, list):
        return
    numbers = [float(value) for value in answer if type(value) in (int, float)]  # type: ignore[arg-type]
    if len(numbers) == len(answer) == 4:
        if all(map(math.isfinite, numbers)):
            yield (numbers[0], numbers[1], numbers[2], numbers[3])
        return
    for item in answer:
        if isinstance(item, list | dict):
            yield from boxes_in(item)


def misordered_boxes(answer: AnswerValue) -> str | None:
    """Return a sentence about boxes whose second corner is not right of and below the first; None if there are none.

    The corners of a gold answer are not put in order like a model's, since its numbers probably mean something else.

    >>> misordered_boxes([{"bbox_2d": [124, 82, 120, 92], "label": "cat"}])
    'box (124, 82, 120, 92) has no area: its corners are out of order; wanted x1 < x2 and y1 < y2, not width and height'
    """
    bad = [box for box in boxes_in(answer) if box[0] > box[2] or box[1] > box[3]]
    if not bad:
        return None
    listed = ", ".join(map(numbers_of, bad[:_MAX_SHOWN])) + (f", … ({len(bad)})" if len(bad) > _MAX_SHOWN else "")
    what = "box {} has no area: its" if len(bad) == 1 else "boxes {} have no area: their"
    return f"{what.format(listed)} corners are out of order; wanted x1 < x2 and y1 < y2, not width and height"


def numbers_of(box: Box) -> str:
    """Format a box for an error message, e.g. "(1, 2, 3.5, 4)"."""
    return f"({', '.join(f'{edge:.10g}' for edge in box)})"
