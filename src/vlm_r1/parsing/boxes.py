"""One box out of an answer, in the coordinates the model wrote.

A box is four numbers in square brackets. What stands around the brackets is not looked at, so that one rule reads
`[x1, y1, x2, y2]`, JSON such as `{"bbox_2d": [x1, y1, x2, y2], "label": "dog"}` with any key, ```json fences, and
InternVL's `<box>[[x1, y1, x2, y2]]</box>`. A bracket that is never closed is not repaired: where an answer was cut
off, its last number may be cut too.
"""

from __future__ import annotations

import re

from vlm_r1.geometry.boxes import order_corners
from vlm_r1.parsing.limits import MAX_ANSWER_CHARS, MAX_COORDINATE
from vlm_r1.types import Box, Parsed, ParseFailure

# JSON's numbers, plus the words for the values that JSON lacks: those must fail as numbers, not be passed over.
_NUMBER = r"[+-]?(?:(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?+|[nN]a[nN]|[iI]nf(?:inity)?+)"

# Possessive throughout (++, *+, ?+): a match never crosses a second bracket nor looks back, so the scan is linear.
_NUMBER_LIST = re.compile(rf"\[\s*+({_NUMBER}(?:\s*+,\s*+{_NUMBER})*+)\s*+\]", re.ASCII)
"""ASCII only: in Unicode, `\\s` matches separators such as \\x1c that `float` refuses."""


def parse_box(text: str) -> Parsed[Box] | ParseFailure:
    """Read the one box of an answer.

    The same box written twice is one box; lists of numbers that are not four long are passed over if a box stands
    beside them.

    Args:
        text: what stands inside the answer tags; any text at all.

    Returns:
        The box with its corners in order, or one of the failures `too_long` (over `MAX_ANSWER_CHARS`), `no_box` (no
        list of numbers), `wrong_arity` (none of four), `several_boxes` (different ones), `number_out_of_range` (NaN,
        infinite, or beyond ±`MAX_COORDINATE`).

    >>> parse_box('{"bbox_2d": [110, 20, 10, 220]}')
    Parsed(value=(10.0, 20.0, 110.0, 220.0))
    >>> parse_box("[1, 2, 3]"), parse_box("on the left")
    (ParseFailure(reason='wrong_arity'), ParseFailure(reason='no_box'))
    """
    if len(text) > MAX_ANSWER_CHARS:
        return ParseFailure("too_long")
    lists = [[float(number) for number in match[1].split(",")] for match in _NUMBER_LIST.finditer(text)]
    boxes: set[Box] = {(numbers[0], numbers[1], numbers[2], numbers[3]) for numbers in lists if len(numbers) == 4}
    if not boxes:
        return ParseFailure("wrong_arity" if lists else "no_box")
    if not all(abs(number) <= MAX_COORDINATE for box in boxes for number in box):  # false for NaN too
        return ParseFailure("number_out_of_range")
    if len(boxes) > 1:
        return ParseFailure("several_boxes")
    return Parsed(order_corners(boxes.pop()))
