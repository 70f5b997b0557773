"""Boxes with labels out of an answer, in the coordinates the model wrote.

The answer is JSON, `[{"bbox_2d": [x1, y1, x2, y2], "label": "cat"}, …]`, or the word None for nothing found. What
stands before the first bracket and after the last is not looked at, so ```json fences and a sentence may stand around
it. All or nothing: one broken item makes the answer unreadable. Were it dropped, a model could write broken boxes for
free; and where an answer was cut off, what is left of it is another answer than the model meant.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from vlm_r1.geometry.boxes import order_corners
from vlm_r1.parsing.choices import normalize_text
from vlm_r1.parsing.limits import MAX_ANSWER_CHARS, MAX_COORDINATE
from vlm_r1.types import Box, Parsed, ParseFailure

_JSON = json.JSONDecoder(parse_int=float)  # float: Python refuses integers of 5,000 digits


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
    start = min((at for at in (text.find("["), text.find("{")) if at >= 0), default=None)
    if start is None:
        is_none = normalize_text(text.replace("```json", "").replace("```", "")) == "none"
        return Parsed(()) if is_none else ParseFailure("no_box")
    end = max(text.rfind("]"), text.rfind("}")) + 1
    try:
        found = _JSON.decode(text[start:end])
    except (ValueError, RecursionError):  # not JSON; brackets nested thousands deep
        return ParseFailure("broken_json")
    objects: list[LabelledBox] = []
    for item in found if isinstance(found, list) else [found]:
        read = _read_item(item)
        if isinstance(read, ParseFailure):
            return read
        objects.append(read)
    return Parsed(tuple(objects))


def _read_item(item: Any) -> LabelledBox | ParseFailure:
    fields = item if isinstance(item, dict) else {}
    numbers = fields.get("bbox_2d", fields.get("bbox", fields.get("box_2d")))  # asked for; COCO's; Gemma's
    label = fields.get("label")
    if not isinstance(numbers, list) or not {float}.issuperset(map(type, numbers)):
        return ParseFailure("item_without_box")
    if not isinstance(label, str) or not label.strip():
        return ParseFailure("item_without_label")
    if len(numbers) != 4:
        return ParseFailure("wrong_arity")
    if not all(abs(number) <= MAX_COORDINATE for number in numbers):  # false for NaN too
        return ParseFailure("number_out_of_range")
    return LabelledBox(label, order_corners((numbers[0], numbers[1], numbers[2], numbers[3])))
