"""The answers of an evaluation put in order and sorted by what is wrong with them, from its samples alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from vlm_r1.evaluation.metrics import less_is_better
from vlm_r1.evaluation.samples import Sample
from vlm_r1.report.drawing import LABEL_LIMIT, boxes_of, marks_of
from vlm_r1.report.excerpt import visible
from vlm_r1.report.tables import readable
from vlm_r1.types import AnswerValue

RIGHT, OTHER = "right", "other reasons"
MAX_GROUPS = 20
QUANTILES = {"best": 1.0, "85 %": 0.85, "70 %": 0.70, "50 %": 0.50, "25 %": 0.25, "5 %": 0.05, "worst": 0.0}
"""Places in the order of the answers that a page always shows: the share of answers that are worse."""

_COMPLETE = ("precision_iou50", "recall_iou50")
"""Metrics of answers that list boxes. Such an answer is right if both are 1: a mean of overlaps hides a missing box."""

_LONGEST_LABEL = 40  # characters; a longer gold answer is a sentence and no label


@dataclass(frozen=True)
class Judged:
    """What a page remembers of each sample, since the samples may be many.

    Attributes:
        quality: the main metric, then the mean of all metrics, which orders answers with the same main metric.
        verdict: "right", or in a few words what is wrong.
    """

    quality: tuple[float, float]
    verdict: str


def judged(samples: Iterable[Sample], main: str) -> list[Judged]:
    """Return the quality and the verdict of each sample, in order."""
    return [Judged(quality(sample, main), verdict(sample, main)) for sample in samples]


def quality(sample: Sample, main: str) -> tuple[float, float]:
    """Return the main metric and the mean of all; a number that is not finite is 0, and an error is negative."""
    values = [_oriented(sample.metrics, name) for name in sample.metrics]
    return _oriented(sample.metrics, main), math.fsum(values) / max(1, len(values))


def verdict(sample: Sample, main: str) -> str:
    """Return "right", or in a few words what is wrong with the answer; see `criterion`."""
    cut = ", cut off" if sample.stop_reason == "length" else ""
    if sample.reason is not None:
        return visible(f"not readable: {str(sample.reason)[:LABEL_LIMIT]}{cut}")
    if all(name in sample.metrics for name in _COMPLETE):
        right = all(finite(sample.metrics, name) == 1 for name in _COMPLETE)
    else:
        right = finite(sample.metrics, main) > 0.5
    return RIGHT if right else _fault(sample) + cut


def criterion(metrics: Mapping[str, float], main: str) -> str:
    """Say when an answer with these metrics is right.

    >>> criterion({"accuracy_iou50": 1.0, "iou": 0.7}, "accuracy_iou50")
    'its accuracy at IoU 0.5 is above one half'
    """
    if all(name in metrics for name in _COMPLETE):
        return "it finds every object at an IoU of 0.5, and nothing else"
    return f"its {readable(main)} is above one half"


def by_quality(found: Sequence[Judged]) -> list[int]:
    """Return the places of the answers, the best first; equal ones stay in the order of the file."""
    return sorted(range(len(found)), key=lambda place: found[place].quality, reverse=True)


def at_quantiles(order: Sequence[int]) -> dict[str, int]:
    """Return the places at fixed quantiles of an order from best to worst; a place comes once.

    >>> at_quantiles([7, 3, 5])
    {'best': 7, '70 %': 3, 'worst': 5}
    >>> list(at_quantiles(range(101)).values())
    [0, 15, 30, 50, 75, 95, 100]
    """
    chosen: dict[int, str] = {}
    for name in ("best", "worst", *QUANTILES):
        if order:
            chosen.setdefault(round((1 - QUANTILES[name]) * (len(order) - 1)), name)
    return {chosen[rank]: order[rank] for rank in sorted(chosen)}


def by_verdict(found: Sequence[Judged]) -> dict[str, list[int]]:
    """Return the places of the answers by verdict: the commonest failure first, in it the worst first, "right" last.

    Rare verdicts beyond `MAX_GROUPS` are one group: a reason may be any text.
    """
    counts = Counter(one.verdict for one in found if one.verdict != RIGHT)
    names = [name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))][:MAX_GROUPS]
    groups: dict[str, list[int]] = {name: [] for name in (*names, OTHER, RIGHT)}
    for place in sorted(range(len(found)), key=lambda place: found[place].quality):
        groups[verdict if (verdict := found[place].verdict) in groups else OTHER].append(place)
    return {name: places for name, places in groups.items() if places}


def taken_in_turn(groups: Sequence[Sequence[int]], count: int) -> list[int]:
    """Take up to `count` items: the first of each group, then the second of each, and so on.

    >>> taken_in_turn([[1, 2, 3], [7]], 3)
    [1, 7, 2]
    """
    longest = max(map(len, groups), default=0)
    return [group[turn] for turn in range(longest) for group in groups if turn < len(group)][:count]


def labels_of(gold: AnswerValue) -> list[str]:
    """Return the labels of a gold answer: those of its boxes, or itself if it is a short text or a number.

    >>> labels_of([{"bbox_2d": [0, 0, 5, 5], "label": "dog"}, {"bbox_2d": [1, 1, 5, 5], "label": "dog"}])
    ['dog']
    >>> labels_of("B"), labels_of(3), labels_of([1, 2, 3, 4]), labels_of("a sentence " * 9)
    (['B'], ['3'], [], [])
    """
    if isinstance(gold, list | dict):
        return list(dict.fromkeys(visible(label[:_LONGEST_LABEL]) for _, label in boxes_of(gold) if label))
    text = "" if gold is None or isinstance(gold, float) or _is_huge(gold) else str(gold).strip()
    return [visible(text)] if 0 < len(text) <= _LONGEST_LABEL else []


def finite(metrics: Mapping[str, float], name: str) -> float:
    """Return a metric; 0 if it is missing or not finite."""
    value = metrics.get(name, 0.0)
    return value if math.isfinite(value) else 0.0


def _oriented(metrics: Mapping[str, float], name: str) -> float:
    """A metric so that greater is better."""
    return -finite(metrics, name) if less_is_better(name) else finite(metrics, name)


def _fault(sample: Sample) -> str:
    answer, gold = list(marks_of(sample.answer)), list(boxes_of(sample.gold))
    if isinstance(sample.answer, str) or not (answer or gold):
        return "wrong answer"
    return next(_faults(sample.metrics, len(answer), len(gold)), "boxes do not fit")


def _faults(metrics: Mapping[str, float], n_answer: int, n_gold: int) -> Iterator[str]:
    """Yield what is wrong with an answer that is boxes or a point, the gravest first."""
    if "accuracy" in metrics:  # a point, whose gold answer may be a polygon
        yield "beside the target"
    if not n_answer:
        yield "says that nothing is there"
    if not n_gold and n_answer:
        yield "finds what is not there"
    if metrics.get("label_recall", 1.0) < 1:
        yield "misses a kind of object"
    if metrics.get("label_precision", 1.0) < 1:
        yield "names a kind that is absent"
    if n_answer < n_gold:
        yield "too few boxes"
    if n_gold and n_answer > n_gold:
        yield "too many boxes"
    if metrics.get("iou") == 0:
        yield "no overlap"
    if "iou" in metrics:
        yield "too little overlap"


def _is_huge(value: object) -> bool:
    return isinstance(value, int) and abs(value) >= 10**_LONGEST_LABEL
