"""Open-vocabulary detection: find all shapes of the listed kinds, some of which are not in the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, ClassVar

from vlm_r1.synthetic.base import Example, check_name, draw_size, keep_trying
from vlm_r1.synthetic.placement import LOOSENESS, PixelBox, loosen, place, random_box
from vlm_r1.synthetic.shapes import Kind, Shapes, ShapeWorld, draw_grey, look_alikes
from vlm_r1.types import AnswerValue

NONE_ANSWER = "None"

NEGATIVES = ("hard", "random", "none")
"""Kinds of absent labels in the question: look-alikes of the shapes present, any others, or none."""

NONE_SHARE = 0.1
"""Share of questions whose labels are all absent."""

REPEAT_SHARE = 0.3
"""Share of the further shapes, after one of each present kind, that repeat one of these kinds."""

LISTED_RANGE = (2, 4)
"""Number of labels in a question."""


@dataclass(frozen=True)
class OvdWorld(ShapeWorld):
    """Questions list labels: some have several instances, and some are hard negatives.

    Attributes:
        negatives: one of `NEGATIVES`.
        looseness: greatest distance by which the teacher's edges are too far out, as a share of the side.
        wrong_share: share of the absent labels for which the teacher gives a box at a random place.
        thought: "presence" names the labels that the teacher believes to be present, "question" repeats all; "mixed" is
            one of them, equally likely.
    """

    thought: str = "presence"
    negatives: str = "hard"
    looseness: float = LOOSENESS
    wrong_share: float = 0.3

    task: ClassVar = "ovd"
    thoughts: ClassVar = ("presence", "question", "mixed", "none")
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "easy": {"max_objects": 2},
        "medium": {},
        "hard": {"min_objects": 3, "max_objects": 7, "side_range": (0.12, 0.26)},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name("kind of negatives", self.negatives, NEGATIVES)

    def draw(self, rng: Random) -> Example:
        """Choose the shapes and the labels of the question, then draw the picture."""
        wh = draw_size(rng, self.image_sizes)
        grey = draw_grey(rng)
        present, absent, unlisted = self._plan(rng)
        kinds = present + unlisted
        things = keep_trying(lambda: place(rng, wh, [(k, self.draw_sides(rng, wh)) for k in kinds]), wh, self)
        listed = [*dict.fromkeys(present), *absent]
        rng.shuffle(listed)
        found = sorted((listed.index(t.kind), t.box) for t in things if t.kind in present)
        labels = [str(kind) for kind in listed]
        answer = _written([(labels[i], box) for i, box in found])
        return Example((Shapes(wh, grey, things),), ", ".join(labels), answer, {"listed": list(labels)})

    def _plan(self, rng: Random) -> tuple[list[Kind], list[Kind], list[Kind]]:
        """Choose the kinds of the shapes asked for, the absent kinds asked for, and the kinds of the other shapes."""
        n_objects = rng.randint(self.min_objects, self.max_objects)
        n_listed = rng.randint(*LISTED_RANGE)
        in_vain = self.negatives != "none" and rng.random() < NONE_SHARE
        n_present = 0 if in_vain else rng.randint(1, min(n_listed, n_objects, len(self.target_kinds)))
        present = rng.sample(self.target_kinds, n_present)
        there = present or [rng.choice(self.other_kinds)]
        candidates = self._candidates(there)
        absent = rng.sample(candidates, min(n_listed - n_present, len(candidates)))
        fresh = [k for k in self.other_kinds if k not in there and k not in absent] or there
        more = [rng.choice(there if rng.random() < REPEAT_SHARE else fresh) for _ in range(n_objects - len(there))]
        kinds = there + more
        return [k for k in kinds if k in present], absent, [k for k in kinds if k not in present]

    def _candidates(self, there: Sequence[Kind]) -> list[Kind]:
        """The kinds that may be asked for although they are absent."""
        if self.negatives == "none":
            return []
        alike = {k for kind in there for k in look_alikes(kind, self.other_kinds)}
        return [k for k in self.other_kinds if k not in there and (k in alike or self.negatives == "random")]

    def misjudge(self, rng: Random, example: Example) -> AnswerValue:
        """Give loose boxes, and some boxes for absent labels."""
        picture, listed = example.pictures[0], example.question.split(", ")
        boxes: list[tuple[str, PixelBox]] = []
        for label in listed:
            there = sorted(t.box for t in picture.things if str(t.kind) == label)
            boxes += [(label, loosen(box, picture.wh, rng, self.looseness)) for box in there]
            if not there and rng.random() < self.wrong_share:
                boxes.append((label, random_box(rng, picture.wh, self.draw_sides(rng, picture.wh))))
        return _written(boxes)

    def think(self, rng: Random, example: Example, answer: AnswerValue) -> str:
        """Name the labels that have boxes in the answer, or all labels; return "" for the thought "none"."""
        style = rng.choice(("presence", "question")) if self.thought == "mixed" else self.thought
        if style != "presence":
            return example.question if style == "question" else ""
        items = answer if isinstance(answer, list) else []
        boxed = dict.fromkeys(str(item["label"]) for item in items if isinstance(item, dict))
        return f"present: {', '.join(boxed) or NONE_ANSWER}"


def _written(boxes: Sequence[tuple[str, PixelBox]]) -> AnswerValue:
    return [{"bbox_2d": list(box), "label": label} for label, box in boxes] or NONE_ANSWER
