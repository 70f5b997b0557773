"""Read one point from an answer, in the coordinates of the model.

A point is two numbers in one pair of brackets, square or round, or two numbers named x and y. Text around them is
ignored. So one rule reads `[x, y]`, `{"point_2d": [x, y], "label": "OK"}` with any key, `(x, y)`, ```json fences,
`<point>[[x, y]]</point>`, `{"x": x, "y": y}`, `pyautogui.click(x=x, y=y)` and `<point x="x" y="y">`.

Without a point, a box (four numbers, or Qwen2-VL's `(x1, y1), (x2, y2)`) is read as its centre: many models answer the
question where to click with a box, and would click its centre. If there is exactly one fenced block and it has
brackets, that block is the answer.
"""

from __future__ import annotations

import re

from vlm_r1.geometry.boxes import centre
from vlm_r1.parsing.boxes import NUMBERS, answer_block, in_range
from vlm_r1.parsing.limits import MAX_ANSWER_CHARS
from vlm_r1.parsing.round_boxes import find_corners, find_named_points
from vlm_r1.types import Parsed, ParseFailure, Point

_NUMBER_LIST = re.compile(rf"\[{NUMBERS}\]|\({NUMBERS}\)", re.ASCII)
_SQUARE_LIST = re.compile(rf"\[{NUMBERS}\]", re.ASCII)


def parse_point(text: str) -> Parsed[Point] | ParseFailure:
    """Read the one point of an answer.

    The same point written twice is one point. Lists of other lengths are ignored if there is a point or a box.

    Args:
        text: any text inside the answer tags.

    Returns:
        The point, or a failure: `too_long` (over `MAX_ANSWER_CHARS`), `no_point` (no list of numbers), `wrong_arity`
        (no list of two or four), `number_out_of_range` (NaN, infinite, or beyond ±`MAX_COORDINATE`), or
        `several_points` (different ones).

    >>> parse_point('{"point_2d": [60, 120], "label": "OK"}'), parse_point("(60, 120)")
    (Parsed(value=(60.0, 120.0)), Parsed(value=(60.0, 120.0)))
    >>> parse_point("[10, 20, 110, 220]"), parse_point("[1, 2] or [3, 4]")
    (Parsed(value=(60.0, 120.0)), ParseFailure(reason='several_points'))
    """
    if len(text) > MAX_ANSWER_CHARS:
        return ParseFailure("too_long")
    lists = _lists_of_numbers(answer_block(text))
    found = [numbers for numbers in lists if len(numbers) == 2] or [numbers for numbers in lists if len(numbers) == 4]
    if not found:
        return ParseFailure("wrong_arity" if lists else "no_point")
    if not all(map(in_range, found)):
        return ParseFailure("number_out_of_range")
    points = {(n[0], n[1]) if len(n) == 2 else centre((n[0], n[1], n[2], n[3])) for n in found}
    return Parsed(points.pop()) if len(points) == 1 else ParseFailure("several_points")


def _lists_of_numbers(text: str) -> list[list[float]]:
    corners = [found.numbers for found in find_corners(text)] if "(" in text else []
    if any(len(numbers) == 4 for numbers in corners):  # two adjacent points are the corners of a box
        lists = [match[1].split(",") for match in _SQUARE_LIST.finditer(text)] + corners[:-1]
    else:
        lists = [(match[1] or match[2]).split(",") for match in _NUMBER_LIST.finditer(text)]
    return [[float(number) for number in numbers] for numbers in lists] or find_named_points(text)
