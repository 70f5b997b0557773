"""Read boxes without labels from an answer, in the coordinates of the model: exactly one, or any number.

*One* box is four numbers in square brackets, or Qwen2-VL's `(x1, y1), (x2, y2)`. Text around the brackets is ignored.
So one rule reads `[x1, y1, x2, y2]`, JSON such as `{"bbox_2d": [x1, y1, x2, y2], "label": "dog"}` with any key, ```json
fences, and InternVL's `<box>[[x1, y1, x2, y2]]</box>`. A bracket that is never closed is not repaired: if an answer was
cut off, its last number may be incomplete too.

*Any number* of boxes is JSON, `[[x1, y1, x2, y2], …]` or `[{"bbox_2d": [x1, y1, x2, y2]}, …]`, or the word None; or, in
a text without JSON, boxes in Qwen2-VL's form. Text before the first bracket and after the last is ignored. As with
labelled boxes, one broken item makes the whole answer unreadable.

In both cases, if there is exactly one fenced block (```json … ```) and it has brackets, that block is the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from vlm_r1.geometry.boxes import order_corners
from vlm_r1.parsing.json_values import is_list, is_object
from vlm_r1.parsing.limits import MAX_ANSWER_CHARS, MAX_COORDINATE
from vlm_r1.parsing.normal_form import normalize_text
from vlm_r1.parsing.round_boxes import find_corners
from vlm_r1.types import Box, Parsed, ParseFailure

# JSON's numbers, plus the words for values that JSON lacks: those must fail as numbers rather than be skipped.
_NUMBER = r"[+-]?(?:(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?|[nN]a[nN]|[iI]nf(?:inity)?)"

# Runs of one kind are possessive (++, *+), and a match never crosses a second bracket: the scan is linear. Groups are
# not: `(…)*+` is broken before Python 3.11.5 (gh-106052).
NUMBERS = rf"\s*+({_NUMBER}(?:\s*+,\s*+{_NUMBER})*)\s*+"
"""Numbers separated by commas, as one group. Compile it with `re.ASCII`: in Unicode, `\\s` matches separators such as
\\x1c that `float` refuses."""

_NUMBER_LIST = re.compile(rf"\[{NUMBERS}\]", re.ASCII)
_JSON = json.JSONDecoder(parse_int=float)  # float: Python refuses integers of 5,000 digits
_FENCE = "```"


def parse_box(text: str) -> Parsed[Box] | ParseFailure:
    """Read the one box of an answer.

    The same box written twice is one box. Lists of other lengths than four are ignored if there is a box.

    Args:
        text: any text inside the answer tags.

    Returns:
        The box with its corners in order, or a failure: `too_long` (over `MAX_ANSWER_CHARS`), `no_box` (no list of
        numbers), `wrong_arity` (no list of four), `several_boxes` (different ones), or `number_out_of_range` (NaN,
        infinite, or beyond ±`MAX_COORDINATE`).

    >>> parse_box('{"bbox_2d": [110, 20, 10, 220]}')
    Parsed(value=(10.0, 20.0, 110.0, 220.0))
    >>> parse_box("[1, 2, 3]"), parse_box("on the left")
    (ParseFailure(reason='wrong_arity'), ParseFailure(reason='no_box'))
    """
    found = _box_numbers(text)
    if isinstance(found, ParseFailure):
        return found
    boxes = set(found)
    return Parsed(order_corners(boxes.pop())) if len(boxes) == 1 else ParseFailure("several_boxes")


def parse_candidates(text: str) -> Parsed[tuple[Box, ...]] | ParseFailure:
    """Read all boxes that `parse_box` finds in an answer, in the order written, in linear time.

    A box written twice is two candidates. An answer that `parse_box` reads has that box alone.

    Args:
        text: any text inside the answer tags.

    Returns:
        At least one box, corners in order; or a failure as in `parse_box`, without `several_boxes`.

    >>> parse_candidates("(1,2),(3,4), no: [5, 6, 7, 8]")
    Parsed(value=((1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.0, 8.0)))
    """
    found = _box_numbers(text)
    return found if isinstance(found, ParseFailure) else Parsed(tuple(map(order_corners, found)))


def _box_numbers(text: str) -> list[Box] | ParseFailure:
    """Find all lists of four numbers of an answer, in the order written, corners as written."""
    if len(text) > MAX_ANSWER_CHARS:
        return ParseFailure("too_long")
    text = answer_block(text)
    lists = [(match.start(), list(map(float, match[1].split(",")))) for match in _NUMBER_LIST.finditer(text)]
    if "(" in text:
        lists += [(start, numbers) for _, numbers, start in find_corners(text) if len(numbers) > 2]
        lists.sort(key=lambda one: one[0])
    boxes: list[Box] = [(n[0], n[1], n[2], n[3]) for _, n in lists if len(n) == 4]
    if not boxes:
        return ParseFailure("wrong_arity" if lists else "no_box")
    return boxes if all(map(in_range, boxes)) else ParseFailure("number_out_of_range")


def parse_boxes(text: str) -> Parsed[tuple[Box, ...]] | ParseFailure:
    """Read all boxes of an answer, in the order written; a box written twice is two boxes.

    Args:
        text: any text inside the answer tags.

    Returns:
        The boxes with corners in order; none for "None" or `[]`. Or the first failure: `too_long` (over
        `MAX_ANSWER_CHARS`), `no_box` (no bracket, and not "None"), `broken_json`, `item_without_box` (of numbers),
        `wrong_arity` (not four numbers), or `number_out_of_range` (as in `parse_box`).

    >>> parse_boxes("[[110, 20, 10, 220], [1, 2, 3, 4]]")
    Parsed(value=((10.0, 20.0, 110.0, 220.0), (1.0, 2.0, 3.0, 4.0)))
    >>> parse_boxes('[{"bbox_2d": [1, 2, 3, 4]}]'), parse_boxes("None")
    (Parsed(value=((1.0, 2.0, 3.0, 4.0),)), Parsed(value=()))
    """
    match read_json(text):
        case ParseFailure(reason="no_box"):
            return _read_round_boxes(text)
        case Parsed(value=found):
            is_one = is_object(found) or any(isinstance(item, float) for item in found)
        case failure:
            return failure
    boxes: list[Box] = []
    for item in [found] if is_one else found:
        box = read_box(item)
        if isinstance(box, ParseFailure):
            return box
        boxes.append(box)
    return Parsed(tuple(boxes))


def _read_round_boxes(text: str) -> Parsed[tuple[Box, ...]] | ParseFailure:
    boxes: list[Box] = []
    for corners in find_corners(text):
        if not corners.numbers:
            continue
        box = read_box(corners.numbers)
        if isinstance(box, ParseFailure):
            return box
        boxes.append(box)
    return Parsed(tuple(boxes)) if boxes else ParseFailure("no_box")


def answer_block(text: str) -> str:
    """Return the content of the fenced block of a text, if there is exactly one and it has brackets; else the text.

    >>> answer_block("Of [cat, dog]:\\n```json\\n[[1, 2, 3, 4]]\\n```").strip(), answer_block("[1, 2, 3, 4]")
    ('json\\n[[1, 2, 3, 4]]', '[1, 2, 3, 4]')
    """
    if text.count(_FENCE) != 2:
        return text
    block = text.split(_FENCE)[1]
    return block if "[" in block or "{" in block else text


def read_json(text: str) -> Parsed[Any] | ParseFailure:
    """Decode the JSON list or object of an answer, all numbers as floats; the word None is an empty list.

    Returns:
        The JSON from the first bracket to the last, of the whole text or of its only fenced block. Or a failure:
        `too_long`, `no_box` (no bracket), or `broken_json`.

    >>> read_json("I see: [1, {}]."), read_json("none.")
    (Parsed(value=[1.0, {}]), Parsed(value=[]))
    """
    if len(text) > MAX_ANSWER_CHARS:
        return ParseFailure("too_long")
    found = _decode(text)
    block = answer_block(text) if found == ParseFailure("broken_json") else text
    return found if block is text else _decode(block)


def _decode(text: str) -> Parsed[Any] | ParseFailure:
    start = min((at for at in (text.find("["), text.find("{")) if at >= 0), default=None)
    if start is None:
        is_none = normalize_text(text.replace("```json", "").replace(_FENCE, "")) == "none"
        return Parsed([]) if is_none else ParseFailure("no_box")
    try:
        return Parsed(_JSON.decode(text[start : max(text.rfind("]"), text.rfind("}")) + 1]))
    except (ValueError, RecursionError):  # not JSON; brackets nested thousands deep
        return ParseFailure("broken_json")


def read_box(item: Any) -> Box | ParseFailure:
    """Read a box from decoded JSON: four numbers, or an object that holds them; `parse_boxes` lists the failures.

    >>> read_box({"bbox_2d": [1.0, 2.0, 3.0, 4.0]}), read_box("near the door")
    ((1.0, 2.0, 3.0, 4.0), ParseFailure(reason='item_without_box'))
    """
    numbers = item.get("bbox_2d", item.get("bbox", item.get("box_2d"))) if is_object(item) else item
    if not is_list(numbers) or not {float}.issuperset(map(type, numbers)):
        return ParseFailure("item_without_box")
    if len(numbers) != 4:
        return ParseFailure("wrong_arity")
    if not in_range(numbers):
        return ParseFailure("number_out_of_range")
    return order_corners((numbers[0], numbers[1], numbers[2], numbers[3]))


def in_range(coordinates: Sequence[float]) -> bool:
    """Return whether all coordinates are finite and within ±`MAX_COORDINATE`.

    >>> in_range((1.0, 2.0)), in_range((1.0, float("nan")))
    (True, False)
    """
    return all(abs(number) <= MAX_COORDINATE for number in coordinates)  # False for NaN too
