"""Boxes with labels out of an answer, in the coordinates the model wrote.

The answer is JSON, `[{"bbox_2d": [x1, y1, x2, y2], "label": "cat"}, …]`, or the word None for nothing found. What
stands before the first bracket and after the last is not looked at, so ```json fences and a sentence may stand around
it; exactly one fenced block with brackets in it is the answer. In a text without JSON, objects in Qwen2-VL's form are
read, each label before its boxes: `cat(x1, y1), (x2, y2)`. All or nothing: one broken item makes the answer unreadable.
Were it dropped, a model could write broken boxes for free; and where an answer was cut off, what is left of it is
another answer than the model meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from vlm_r1.parsing.boxes import read_box, read_json
from vlm_r1.parsing.limits import MAX_ANSWER_CHARS
from vlm_r1.parsing.round_boxes import find_corners
from vlm_r1.types import Box, Parsed, ParseFailure


@dataclass(frozen=True)
class LabelledBox:
    """One detected object, e.g. `LabelledBox("cat", (10.0, 20.0, 110.0, 220.0))`."""

    label: str
    box: Box


def parse_labelled_boxes(text: str) -> Parsed[tuple[LabelledBox, ...]] | ParseFailure:
    """Read the detected objects of an answer, in the order written.

    Args:
        text: what stands inside the answer tags; any text at all.

    Returns:
        The objects, corners in order, labels as written; none for "None" or `[]`. Or one of the failures `too_long`
        (over `MAX_ANSWER_CHARS`), `no_box` (no bracket, and not "None"), `broken_json`, `item_without_box` (of
        numbers), `item_without_label`, `wrong_arity` (not four numbers), `number_out_of_range` (NaN, infinite, or
        beyond ±`MAX_COORDINATE`); the first that is met.

    >>> parse_labelled_boxes('```json\\n[{"bbox_2d": [110, 20, 10, 220], "label": "cat"}]\\n```')
    Parsed(value=(LabelledBox(label='cat', box=(10.0, 20.0, 110.0, 220.0)),))
    >>> parse_labelled_boxes("None"), parse_labelled_boxes('[{"bbox_2d": [1, 2, 3, 4]}]')
    (Parsed(value=()), ParseFailure(reason='item_without_label'))
    """
    return ParseFailure("too_long") if len(text) > MAX_ANSWER_CHARS else _read(text)


@lru_cache(maxsize=16)  # a record's gold answer is read again with each of its completions
def _read(text: str) -> Parsed[tuple[LabelledBox, ...]] | ParseFailure:
    match read_json(text):
        case ParseFailure(reason="no_box"):
            return _read_round_boxes(text)
        case Parsed(value=found):
            items = found if isinstance(found, list) else [found]
        case failure:
            return failure
    objects: list[LabelledBox] = []
    for item in items:
        read = _read_item(item)
        if isinstance(read, ParseFailure):
            return read
        objects.append(read)
    return Parsed(tuple(objects))


def _read_round_boxes(text: str) -> Parsed[tuple[LabelledBox, ...]] | ParseFailure:
    """`cat(1,2),(3,4) dog(5,6),(7,8)`: a box without a text before it has the label of the box before it."""
    objects: list[LabelledBox] = []
    label = ""
    for before, numbers in find_corners(text):
        if not numbers:  # what stands after all boxes
            return Parsed(tuple(objects)) if objects and not before else ParseFailure("no_box")
        box = read_box(numbers)
        if isinstance(box, ParseFailure):
            return box
        label = before or label
        if not label:
            return ParseFailure("item_without_label")
        objects.append(LabelledBox(label, box))
    return ParseFailure("no_box")


def _read_item(item: Any) -> LabelledBox | ParseFailure:
    box = read_box(item if isinstance(item, dict) else {})
    if isinstance(box, ParseFailure):
        return box
    label = item.get("label")
    if not isinstance(label, str) or not label.strip():
        return ParseFailure("item_without_label")
    return LabelledBox(label, box)
