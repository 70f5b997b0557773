"""Placement of things: random boxes with gaps between them, and a careless teacher's version of a box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

PixelBox = tuple[int, int, int, int]
"""`(x1, y1, x2, y2)` covers the pixels x1 … x2 − 1 and y1 … y2 − 1, so its area is (x2 − x1)(y2 − y1)."""

LOOSENESS = 0.5
"""Greatest share of the box's side by which each edge of a warm-up box is moved out; the share is uniform."""

_GAP_PX = 2
_ATTEMPTS = 30

K = TypeVar("K", bound=tuple[str, ...], covariant=True)
V = TypeVar("V", bound=tuple[str, ...])


@dataclass(frozen=True)
class Thing(Generic[K]):
    """One thing in a picture, of a named kind such as `Kind("red", "circle")`."""

    kind: K
    box: PixelBox


def place(rng: Random, wh: tuple[int, int], wanted: Sequence[tuple[V, tuple[int, int]]]) -> tuple[Thing[V], ...] | None:
    """Put things of these kinds and (width, height) at random places with gaps; None if they did not fit."""
    things: list[Thing[V]] = []
    for kind, sides in wanted:
        boxes = (random_box(rng, wh, sides) for _ in range(_ATTEMPTS))
        box = next((b for b in boxes if not any(_close(b, thing.box) for thing in things)), None)
        if box is None:
            return None
        things.append(Thing(kind, box))
    return tuple(things)


def random_box(rng: Random, wh: tuple[int, int], sides: tuple[int, int]) -> PixelBox:
    """Draw a box of that width and height at a random place in the image."""
    x1, y1 = rng.randint(0, wh[0] - sides[0]), rng.randint(0, wh[1] - sides[1])
    return x1, y1, x1 + sides[0], y1 + sides[1]


def loosen(box: PixelBox, wh: tuple[int, int], rng: Random, looseness: float = LOOSENESS) -> PixelBox:
    """Move every edge of a box out by a uniform share (0 to `looseness`) of the side, like a careless teacher."""
    x1, y1, x2, y2 = box
    left, top, right, bottom = (rng.uniform(0, looseness) * side for side in (x2 - x1, y2 - y1) * 2)
    return (
        max(0, round(x1 - left)),
        max(0, round(y1 - top)),
        min(wh[0], round(x2 + right)),
        min(wh[1], round(y2 + bottom)),
    )


def _close(a: PixelBox, b: PixelBox) -> bool:
    apart_x = a[0] - b[2] >= _GAP_PX or b[0] - a[2] >= _GAP_PX
    apart_y = a[1] - b[3] >= _GAP_PX or b[1] - a[3] >= _GAP_PX
    return not (apart_x or apart_y)
