"""Referring expressions: each names exactly one shape, by its kind, its size or its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from vlm_r1.synthetic.base import Example, draw_size, keep_trying
from vlm_r1.synthetic.placement import LOOSENESS, PixelBox, Thing, loosen, place
from vlm_r1.synthetic.shapes import Kind, Shapes, ShapeWorld, draw_grey
from vlm_r1.types import AnswerValue

SIZE_FACTOR = 1.5
"""Least ratio of both sides of the "large" shape to those of the "small" one."""

PLACES = ("left of", "right of", "above", "below")

_PLACE_OBJECTS = 3  # the shape asked for, its twin and a landmark

Planned = tuple[tuple[Thing[Kind], ...], str] | None
"""The things, with the target first, and the expression for the target; None if they did not fit."""


@dataclass(frozen=True)
class RecWorld(ShapeWorld):
    """The world of the demo. Pictures with an expression of size have at least 2 objects, those of place at least 3.

    Attributes:
        relation_share: share of pictures with two shapes of the target kind, which differ by size or by place.
        looseness: greatest distance by which the teacher's edges are too far out, as a share of the side.
    """

    max_objects: int = 2
    side_range: tuple[float, float] = (0.26, 0.5)
    relation_share: float = 0.2
    looseness: float = LOOSENESS

    task: ClassVar = "rec"
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "easy": {"relation_share": 0.0},
        "medium": {},
        "hard": {"relation_share": 0.5, "min_objects": 2, "max_objects": 5, "side_range": (0.16, 0.32)},
    }

    @property
    def most_objects(self) -> int:
        """At least three, which an expression of place needs, even if `max_objects` is lower."""
        return max(self.max_objects, _PLACE_OBJECTS)

    def draw(self, rng: Random) -> Example:
        """Draw a picture and an expression for its first shape."""
        wh = draw_size(rng, self.image_sizes)
        grey = draw_grey(rng)
        asks_by = rng.choice(("size", "place")) if rng.random() < self.relation_share else "kind"
        plan = {"kind": _ask_by_kind, "size": _ask_by_size, "place": _ask_by_place}[asks_by]
        n_objects = rng.randint(self.min_objects, self.max_objects)
        things, expression = keep_trying(lambda: plan(rng, self, wh, n_objects), wh, self)
        return Example((Shapes(wh, grey, things),), expression, list(things[0].box), {"asks_by": asks_by})

    def misjudge(self, rng: Random, example: Example) -> AnswerValue:
        """Give a loose box."""
        picture = example.pictures[0]
        return list(loosen(picture.things[0].box, picture.wh, rng, self.looseness))


def _ask_by_kind(rng: Random, world: RecWorld, wh: tuple[int, int], n_objects: int) -> Planned:
    kind = rng.choice(world.target_kinds)
    kinds = [kind, *_others(rng, world, kind, n_objects - 1)]
    things = place(rng, wh, [(k, world.draw_sides(rng, wh)) for k in kinds])
    return (things, f"the {kind}") if things else None


def _ask_by_size(rng: Random, world: RecWorld, wh: tuple[int, int], n_objects: int) -> Planned:
    kind = rng.choice(world.target_kinds)
    small, large = _small_and_large(rng, world, wh)
    word = rng.choice(("small", "large"))
    pair = [(kind, small), (kind, large)] if word == "small" else [(kind, large), (kind, small)]
    others = [(k, world.draw_sides(rng, wh)) for k in _others(rng, world, kind, max(n_objects, 2) - 2)]
    things = place(rng, wh, pair + others)
    return (things, f"the {word} {kind}") if things else None


def _ask_by_place(rng: Random, world: RecWorld, wh: tuple[int, int], n_objects: int) -> Planned:
    kind = rng.choice(world.target_kinds)
    others = _others(rng, world, kind, max(n_objects, _PLACE_OBJECTS) - 2)
    things = place(rng, wh, [(k, world.draw_sides(rng, wh)) for k in (kind, kind, *others)])
    if not things:
        return None
    words = [word for word in PLACES if _identifies(word, *(thing.box for thing in things[:3]))]
    return (things, f"the {kind} {rng.choice(words)} the {things[2].kind}") if words else None


def _identifies(word: str, target: PixelBox, twin: PixelBox, landmark: PixelBox) -> bool:
    """Return whether the place fits the target (fully beyond the landmark's edge) and not its twin (by the centres)."""
    low, high = (0, 2) if word in ("left of", "right of") else (1, 3)
    if word in ("left of", "above"):
        return target[high] <= landmark[low] and twin[low] + twin[high] >= landmark[low] + landmark[high]
    return target[low] >= landmark[high] and twin[low] + twin[high] <= landmark[low] + landmark[high]


def _others(rng: Random, world: RecWorld, kind: Kind, n: int) -> list[Kind]:
    """Draw n different kinds other than `kind`."""
    return rng.sample([other for other in world.other_kinds if other != kind], n)


def _small_and_large(rng: Random, world: RecWorld, wh: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Draw two pairs of sides, of which the second is clearly larger in width and height."""

    def attempt() -> tuple[tuple[int, int], tuple[int, int]] | None:
        small, large = world.draw_sides(rng, wh), world.draw_sides(rng, wh)
        clear = all(b >= SIZE_FACTOR * a for a, b in zip(small, large, strict=True))
        return (small, large) if clear else None

    return keep_trying(attempt, wh, world)
