"""Read boxes with labels from an answer, in the coordinates of the model.

The answer is JSON, `[{"bbox_2d": [x1, y1, x2, y2], "label": "cat"}, …]`, or the word None if nothing was found. Text
before the first bracket and after the last is ignored, e.g. ```json fences or a sentence. If there is exactly one
fenced block and it has brackets, that block is the answer. In a text without JSON, objects in Qwen2-VL's form are read,
each label before its boxes: `cat(x1, y1), (x2, y2)`.

One broken item makes the whole answer unreadable. If it were dropped instead, a model could write broken boxes for
free, and an answer that was cut off would count as another answer than the model meant.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from vlm_r1.parsing.boxes import read_box, read_json
from vlm_r1.parsing.json_values import is_list, is_object
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
        text: any text inside the answer tags.

    Returns:
        The objects with corners in order and labels as written; none for "None" or `[]`. Or the first failure:
        `too_long` (over `MAX_ANSWER_CHARS`), `no_box` (no bracket, and not "None"), `broken_json`, `item_without_box`
        (of numbers), `item_without_label`, `wrong_arity` (not four numbers), or `number_out_of_range` (NaN, infinite,
        or beyond ±`MAX_COORDINATE`).

    >>> parse_labelled_boxes('```json\\n[{"bbox_2d": [110, 20, 10, 220], "label": "cat"}]\\n```')
    Parsed(value=(LabelledBox(label='cat', box=(10.0, 20.0, 110.0, 220.0)),))
    >>> parse_labelled_boxes("None"), parse_labelled_boxes('[{"bbox_2d": [1, 2, 3, 4]}]')
    (Parsed(value=()), ParseFailure(reason='item_without_label'))
    """
    return ParseFailure("too_long") if len(text) > MAX_ANSWER_CHARS else _read(text)


@lru_cache(maxsize=16)  # a record's gold answer is read with each of its completions
def _read(text: str) -> Parsed[tuple[LabelledBox, ...]] | ParseFailure:
    match read_json(text):
        case ParseFailure(reason="no_box"):
            return _read_round_boxes(text)
        case Parsed(value=found):
            items = found if is_list(found) else [found]
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
    """Read `cat(1,2),(3,4) dog(5,6),(7,8)`; a box without its own text has the label of the previous box."""
    objects: list[LabelledBox] = []
    label = ""
    for before, numbers, _ in find_corners(text):
        if not numbers:  # the text after all boxes
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
    item = item if is_object(item) else {}
    box = read_box(item)
    if isinstance(box, ParseFailure):
        return box
    label = item.get("label")
    if not isinstance(label, str) or not label.strip():
        return ParseFailure("item_without_label")
    return LabelledBox(label, box)
