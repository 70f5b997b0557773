"""Read boxes and points that are not lists in square brackets.

A corner is two numbers in round brackets. Two corners with only a comma between them are a box, as Qwen2-VL writes it:
`<|object_ref_start|>red car<|object_ref_end|><|box_start|>(160,120),(320,240)<|box_end|>`. Without special tokens this
is `red car(160,120),(320,240)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_N = r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)"
_CORNERS = re.compile(
    rf"\(\s*+{_N}\s*+,\s*+{_N}\s*+\)(?:\s*+,\s*+\(\s*+{_N}\s*+,\s*+{_N}\s*+\))*", re.ASCII
)  # a chain of corners
_NUMBER = re.compile(_N, re.ASCII)
_NAMED = re.compile(
    rf"""(?<!\w)x(\d?)["']?\s*+[=:]\s*+["']?({_N})["']?\s*+,?\s*+["']?y\1["']?\s*+[=:]\s*+["']?({_N})""",
    re.ASCII | re.IGNORECASE,
)
_MARK = re.compile(r"<\|(?:object_ref|box)_(?:start|end)\|>|</?(?:ref|box)>")  # Qwen2-VL's and Qwen-VL's
_EDGE = " \t\r\n,;:.-"


class Corners(NamedTuple):
    """A box, or another list of numbers in round brackets, and the text between the previous one and this.

    Attributes:
        before: that text, without marks and outer punctuation.
        numbers: e.g. the four of a box; none for the text after the last one.
        start: index in the text at which it, or the chain that it is a part of, begins.
    """

    before: str
    numbers: list[float]
    start: int


def find_corners(text: str) -> Iterator[Corners]:
    """Yield every box of a text, four numbers, with the text before it; at the end the rest of the text, no numbers.

    A chain of an even number of corners is split into boxes of two corners; any other chain is yielded as it is.

    >>> list(find_corners("car(1,2),(3,4)."))
    [Corners(before='car', numbers=[1.0, 2.0, 3.0, 4.0], start=3), Corners(before='', numbers=[], start=14)]
    """
    start = 0
    for match in _CORNERS.finditer(text):
        numbers = [float(number) for number in _NUMBER.findall(match[0])]
        length = len(numbers) if len(numbers) % 4 else 4
        before = _MARK.sub("", text[start : match.start()]).strip(_EDGE)
        for first in range(0, len(numbers), length):
            yield Corners("" if first else before, numbers[first : first + length], match.start())
        start = match.end()
    yield Corners(_MARK.sub("", text[start:]).strip(_EDGE), [], start)


def find_named_points(text: str) -> list[list[float]]:
    """Find points with named coordinates: `{"x": 1, "y": 2}`, `click(x=1, y=2)`, `<points x1="1" y1="2">`.

    >>> find_named_points('click(x=246, y=113)'), find_named_points('<points x1="1" y1="2" x2="3" y2="4">')
    ([[246.0, 113.0]], [[1.0, 2.0], [3.0, 4.0]])
    """
    return [[float(x), float(y)] for _, x, y in _NAMED.findall(text)]
