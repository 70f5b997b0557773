"""Random records and answers for benchmarks/rewards.py: what is on an image, what a model finds of it, and its text.

Coordinates are quarters of a pixel, exact in binary, so that width and height, which COCO wants, round nothing.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vlm_r1.parsing.labelled_boxes import LabelledBox
from vlm_r1.types import Box, Record

Objects = tuple[LabelledBox, ...]
Group = list[tuple[Record, str]]  # one record, and different completions of it

GROUP = 8
LABELS = ("person", "red car", "traffic light", "dog")
MANY_LABELS = tuple(f"label {i}" for i in range(20))
_THOUGHT = (
    "The question asks for what stands on the left. There are two that look alike, and the nearer one is meant. " * 2
)


# ---- detections ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Image:
    """What is on one image, what was found, and how sure the finder is of each; neither is empty."""

    gold: Objects
    found: Objects
    scores: tuple[float, ...]


def draw_image(rng: random.Random, most_boxes: int, labels: Sequence[str] = LABELS, scored: bool = False) -> Image:
    """Up to so many gold boxes of 1 to 4 labels; most are found, more or less exactly; some more are listed.

    Ties: one gold box in ten stands there twice, and one prediction in ten; in one image of ten a prediction overlaps
    two gold boxes equally. Scores are 1.0, or, if `scored`, hundredths.
    """
    own = rng.sample(labels, rng.randint(1, 4))
    gold = [LabelledBox(rng.choice(own), _draw_box(rng)) for _ in range(rng.randint(1, most_boxes))]
    gold += [item for item in gold if rng.random() < 0.1]
    found = _find(gold, labels, rng)
    found += [LabelledBox(rng.choice(labels), _draw_box(rng)) for _ in range(rng.randint(not found, 3))]
    found += [item for item in found if rng.random() < 0.1]
    if rng.random() < 0.1:  # half way between two gold boxes, which overlap it equally
        x1, y1, x2, y2 = gold[0].box
        gold.append(LabelledBox(gold[0].label, (x1 + 8, y1, x2 + 8, y2)))
        found.append(LabelledBox(gold[0].label, (x1 + 4, y1, x2 + 4, y2)))
    rng.shuffle(found)
    return Image(tuple(gold), tuple(found), tuple(rng.randint(0, 100) / 100 if scored else 1.0 for _ in found))


def _find(gold: Sequence[LabelledBox], labels: Sequence[str], rng: random.Random) -> list[LabelledBox]:
    """Most of the gold boxes, shifted by nothing, a little or much, and now and then under another label."""
    chosen = [item for item in gold if rng.random() < 0.85]
    return [
        LabelledBox(item.label if rng.random() < 0.9 else rng.choice(labels), _shift(item.box, rng)) for item in chosen
    ]


def _draw_box(rng: random.Random) -> Box:
    """20 to 200 pixels wide and high, on an image of 640 × 480."""
    x1, y1 = _quarter(rng.uniform(0, 440)), _quarter(rng.uniform(0, 280))
    return (x1, y1, x1 + _quarter(rng.uniform(20, 200)), y1 + _quarter(rng.uniform(20, 200)))


def _shift(box: Box, rng: random.Random) -> Box:
    """Move and resize a box by up to 0, 4 or 8 pixels an edge, less than half of what it is wide."""
    most = rng.choice((0, 4, 8))
    x1, y1, x2, y2 = (edge + _quarter(rng.uniform(-most, most)) for edge in box)
    return (x1, y1, x2, y2)


def _quarter(value: float) -> float:
    """To the nearest quarter, a number that is exact in binary."""
    return round(4 * value) / 4


# ---- completions ---------------------------------------------------------------------------------------------------


def draw_group(task: str, rng: random.Random, most_boxes: int) -> Group:
    """A record of a task and 8 different completions of it, some right and some wrong."""
    gold, answers = _DRAW[task](rng, most_boxes)
    record = Record(id="0", task=task, problem="<image>which?", images=("a.png",), answer=gold, source="data.jsonl:1")
    return [(record, f"<think>{_THOUGHT}</think><answer>{answer}</answer>") for answer in answers]


def _rec(rng: random.Random, _: int) -> tuple[Any, list[str]]:
    """One box, written as Qwen2.5-VL does."""
    gold = _draw_box(rng)
    written = [[round(edge) for edge in _shift(gold, rng)] for _ in range(GROUP)]
    return list(gold), [f'{{"bbox_2d": {box}}}' for box in written]


def _ovd(rng: random.Random, most_boxes: int) -> tuple[Any, list[str]]:
    """Fenced JSON of some boxes; the predictions of all eight are drawn anew."""
    gold = draw_image(rng, most_boxes).gold
    answers: list[str] = []
    for _ in range(GROUP):
        found = [*_find(gold, LABELS, rng), LabelledBox(rng.choice(LABELS), _draw_box(rng))]
        items = [{"bbox_2d": [round(edge) for edge in item.box], "label": item.label} for item in found]
        answers.append(f"```json\n{json.dumps(items)}\n```")
    return [{"bbox_2d": list(item.box), "label": item.label} for item in gold], answers


def _vqa(rng: random.Random, _: int) -> tuple[Any, list[str]]:
    """A short label."""
    return rng.choice(LABELS), [f"  {rng.choice(LABELS).title()}." for _ in range(GROUP)]


def _counting(rng: random.Random, _: int) -> tuple[Any, list[str]]:
    """A number in a sentence."""
    return rng.randint(0, 20), [f"There are {rng.randint(0, 20)}." for _ in range(GROUP)]


def _math(rng: random.Random, _: int) -> tuple[Any, list[str]]:
    """A fraction, expanded: right if the factor is the same above and below."""
    above, below = rng.randint(1, 10**6), rng.randint(2, 10**6)
    factors = [(rng.randint(2, 999), rng.randint(0, 1)) for _ in range(GROUP)]
    answers = [f"$\\frac{{{above * k}}}{{{below * (k + off)}}}$" for k, off in factors]
    return f"\\frac{{{above}}}{{{below}}}", answers


_DRAW: dict[str, Callable[[random.Random, int], tuple[Any, list[str]]]] = {
    "rec": _rec,
    "ovd": _ovd,
    "vqa": _vqa,
    "counting": _counting,
    "math": _math,
}
