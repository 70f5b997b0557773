"""Counting: the answer is the number of shapes of one kind, among others that share its colour or its shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from vlm_r1.synthetic.base import Example, draw_size, keep_trying
from vlm_r1.synthetic.placement import place
from vlm_r1.synthetic.shapes import Shapes, ShapeWorld, draw_grey, look_alikes
from vlm_r1.types import AnswerValue


@dataclass(frozen=True)
class CountingWorld(ShapeWorld):
    """Every count from 0 to `max_objects` is equally likely.

    Attributes:
        wrong_share: share of the teacher's counts that are one too many or too few.
    """

    max_objects: int = 5
    side_range: tuple[float, float] = (0.18, 0.32)
    wrong_share: float = 0.3

    task: ClassVar = "counting"
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "easy": {"max_objects": 3, "side_range": (0.2, 0.4)},
        "medium": {},
        "hard": {"min_objects": 3, "max_objects": 8, "side_range": (0.12, 0.24)},
    }

    def draw(self, rng: Random) -> Example:
        """Draw shapes of one kind, and look-alikes."""
        wh = draw_size(rng, self.image_sizes)
        grey = draw_grey(rng)
        kind = rng.choice(self.target_kinds)
        n = rng.randint(0, self.max_objects)
        n_others = rng.randint(max(n, self.min_objects), self.max_objects) - n
        kinds = [kind] * n + rng.choices(look_alikes(kind, self.other_kinds), k=n_others)
        things = keep_trying(lambda: place(rng, wh, [(k, self.draw_sides(rng, wh)) for k in kinds]), wh, self)
        return Example((Shapes(wh, grey, things),), f"how many {kind}s?", n, {"asked": str(kind)})

    def misjudge(self, rng: Random, example: Example) -> AnswerValue:
        """Give the right count, or a neighbouring one."""
        n = sum(str(thing.kind) == example.facts["asked"] for thing in example.pictures[0].things)
        if rng.random() >= self.wrong_share:
            return n
        return n + 1 if n == 0 else n + rng.choice((-1, 1))
