"""Shapes that people draw → the upright box around each, in the unit of its numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from vlm_r1.converters.pictures import Unusable
from vlm_r1.types import Box, Point

NO_NUMBERS = "without the finite numbers of its shape"
DISORDER = "of negative width or height"


def box_of(numbers: Sequence[float] | None) -> Box | Unusable:
    """The box of two corners, whose second lies right of and below the first; None: its numbers could not be read.

    >>> box_of([1, 2, 3, 4]), box_of([3, 2, 1, 4])
    ((1, 2, 3, 4), Unusable(reason='of negative width or height'))
    """
    if numbers is None:
        return Unusable(NO_NUMBERS)
    x1, y1, x2, y2 = numbers
    return Unusable(DISORDER) if x2 < x1 or y2 < y1 else (x1, y1, x2, y2)


def around(points: Iterable[Point]) -> Box:
    """The box around at least one point.

    >>> around([(3, 1), (1, 5), (2, 2)])
    (1, 1, 3, 5)
    """
    xs, ys = zip(*points, strict=True)
    return (min(xs), min(ys), max(xs), max(ys))


def rotated(box: Box, degrees: float, pivot: Point) -> Box:
    """The box around a rectangle that is turned clockwise, as seen on the screen (y grows downwards).

    Args:
        box: the rectangle before it is turned, in pixels.
        degrees: the angle.
        pivot: the point that stays where it is.

    >>> rotated((0, 0, 4, 2), 90, (0, 0))  # the corner (4, 2) goes to (-2, 4)
    (-2.0, 0.0, 0.0, 4.0)
    """
    x1, y1, x2, y2 = box
    cos, sin = _cos_sin(degrees)
    px, py = pivot
    corners = [(x - px, y - py) for x in (x1, x2) for y in (y1, y2)]
    return around((px + x * cos - y * sin, py + x * sin + y * cos) for x, y in corners)


def ellipse(centre: Point, radii: Point, degrees: float = 0.0) -> Box:
    """The box around an ellipse whose axes are turned clockwise.

    Half its width is √((rx cos θ)² + (ry sin θ)²), half its height √((rx sin θ)² + (ry cos θ)²).

    >>> ellipse((10, 10), (4, 2)), ellipse((10, 10), (4, 2), 90)
    ((6.0, 8.0, 14.0, 12.0), (8.0, 6.0, 12.0, 14.0))
    """
    (x, y), (rx, ry) = centre, radii
    cos, sin = _cos_sin(degrees)
    half_width, half_height = math.hypot(rx * cos, ry * sin), math.hypot(rx * sin, ry * cos)
    return (x - half_width, y - half_height, x + half_width, y + half_height)


def _cos_sin(degrees: float) -> tuple[float, float]:
    """Cosine and sine, exact for quarter turns."""
    quarters, rest = divmod(degrees, 90)
    if rest == 0:
        return ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[int(quarters % 4)]
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
