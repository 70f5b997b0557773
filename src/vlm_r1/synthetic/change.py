"""Spot the change: the answer names the difference between two pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any, ClassVar

from vlm_r1.synthetic.base import Example, draw_size, keep_trying
from vlm_r1.synthetic.placement import Thing, place
from vlm_r1.synthetic.shapes import Kind, Shapes, ShapeWorld, draw_grey
from vlm_r1.types import AnswerValue

CHANGES = ("moved", "recoloured", "removed", "added")
NO_CHANGE = "no change"

_Things = tuple[Thing[Kind], ...]


@dataclass(frozen=True)
class ChangeWorld(ShapeWorld):
    """All shapes of a pair of pictures differ in kind, so that a verdict such as "red circle moved" is unique.

    The four changes and no change are equally likely. A recoloured shape is named by its old colour. A moved shape does
    not overlap its old place.

    Attributes:
        wrong_share: share of the teacher's verdicts that are wrong.
    """

    min_objects: int = 2
    side_range: tuple[float, float] = (0.2, 0.36)
    wrong_share: float = 0.3

    task: ClassVar = "vqa"
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "easy": {"min_objects": 1, "max_objects": 2},
        "medium": {},
        "hard": {"min_objects": 4, "max_objects": 6, "side_range": (0.14, 0.26)},
    }

    def draw(self, rng: Random) -> Example:
        """Draw the picture before and the picture after."""
        wh = draw_size(rng, self.image_sizes)
        grey = draw_grey(rng)
        change = rng.choice((*CHANGES, NO_CHANGE))
        n_objects = rng.randint(self.min_objects, self.max_objects)
        before, after, kind = keep_trying(lambda: self._attempt(rng, wh, n_objects, change), wh, self)
        pictures = (Shapes(wh, grey, before), Shapes(wh, grey, after))
        verdict = NO_CHANGE if change == NO_CHANGE else f"{kind} {change}"
        return Example(pictures, "what changed?", verdict, {"change": change})

    def _attempt(
        self, rng: Random, wh: tuple[int, int], n_objects: int, change: str
    ) -> tuple[_Things, _Things, Kind] | None:
        """Return the things before and after, and the kind of the thing that changes."""
        kind = rng.choice(self.target_kinds)
        kinds = [kind, *rng.sample([k for k in self.other_kinds if k != kind], n_objects - 1)]
        wanted = [(k, self.draw_sides(rng, wh)) for k in kinds]
        if change == "moved":
            wanted.append(wanted[0])  # its new place
        placed = place(rng, wh, wanted)
        new_colours = [k for k in self.other_kinds if k.shape == kind.shape and k not in kinds]
        if placed is None or (change == "recoloured" and not new_colours):
            return None
        first, rest = placed[0], placed[1:n_objects]
        if change == "moved":
            return (first, *rest), (placed[-1], *rest), kind
        if change == "recoloured":
            return (first, *rest), (replace(first, kind=rng.choice(new_colours)), *rest), kind
        without = {"removed": (placed, rest), "added": (rest, placed), NO_CHANGE: (placed, placed)}
        return *without[change], kind

    def misjudge(self, rng: Random, example: Example) -> AnswerValue:
        """Give the right verdict, or a wrong one about one of the shapes."""
        if rng.random() >= self.wrong_share:
            return example.answer
        kinds = dict.fromkeys(str(thing.kind) for picture in example.pictures for thing in picture.things)
        verdicts = [NO_CHANGE, *(f"{kind} {change}" for kind in kinds for change in CHANGES)]
        return rng.choice([verdict for verdict in verdicts if verdict != example.answer])
