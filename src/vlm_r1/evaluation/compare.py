"""Compares results of evaluations, answer by answer: differences with intervals and p values, and what flipped.

Answers are paired by record, so what both results find easy or hard cancels out. Answers about the same images are
alike; intervals and permutations therefore draw whole images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_r1.evaluation.samples import Sample


@dataclass(frozen=True)
class Result:
    """A result of an evaluation, as it lies on the disk.

    Attributes:
        path: of `NAME.json`.
        label: short text that tells it from the other results of a comparison, e.g. "before-val" or "runs/a".
        summary: content of `NAME.json`.
        samples: lines of `NAME.samples.jsonl`, in the order of the records.
    """

    path: Path
    label: str
    summary: Mapping[str, Any]
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Pair:
    """Two answers to one question.

    Attributes:
        first, other: the answer of the first result and that of the other one; record and draw are the same.
    """

    first: Sample
    other: Sample

    def change(self, metric: str) -> float:
        """Return by how much the other answer's metric is greater."""
        return self.other.metrics[metric] - self.first.metrics[metric]


@dataclass(frozen=True)
class Difference:
    """How one metric differs between two results, over all pairs or a subset of them.

    Attributes:
        metric: e.g. "accuracy_iou50".
        n: pairs that have the metric; of a protocol that counts objects, the objects.
        images: clusters of pairs; a cluster has the same images.
        first, other: mean of each result.
        difference: other − first.
        ci95: 95 % bootstrap interval of the difference, images drawn whole.
        mcnemar_p: McNemar's exact p of a metric that is always 0 or 1; None for others. It takes all pairs as
            independent, so it is too small if images have several pairs that are alike.
        permutation_p: p of the paired permutation: the signs of whole images flipped, two-sided.
        better, worse, equal: pairs in which the other answer has a greater, smaller, or the same value.
    """

    metric: str
    n: int
    images: int
    first: float
    other: float
    difference: float
    ci95: tuple[float, float]
    mcnemar_p: float | None
    permutation_p: float
    better: int
    worse: int
    equal: int

    @property
    def p(self) -> float:
        """The p to report: McNemar's where it holds, that is if no image has two pairs, else the permutation's."""
        return self.permutation_p if self.mcnemar_p is None or self.images < self.n else self.mcnemar_p


@dataclass(frozen=True)
class SubsetDifferences:
    """The differences in a part of the pairs.

    Attributes:
        key, value: e.g. "box size" and "small".
        metrics: as of all pairs; metrics that no pair of the subset has are left out.
    """

    key: str
    value: str
    metrics: tuple[Difference, ...]


@dataclass(frozen=True)
class Versus:
    """One result against the first.

    Attributes:
        other: the result that is compared with the first.
        pairs: all pairs, in the order of the first result.
        metrics: a difference for each metric that both results have, the main one first.
        subsets: by key, in a fixed order, then by value; keys with one value are left out.
        better, worse: the pairs whose main metric rises or falls, the largest change first; of equal ones, in order.
            Of an accuracy these are the flips: wrong → right, and right → wrong.
    """

    other: Result
    pairs: tuple[Pair, ...]
    metrics: tuple[Difference, ...]
    subsets: tuple[SubsetDifferences, ...]
    better: tuple[Pair, ...]
    worse: tuple[Pair, ...]


@dataclass(frozen=True)
class Comparison:
    """Results against the first of them.

    Attributes:
        first: the result that the others are compared with.
        others: each of the others against the first, in the order given.
        main: the main metric, e.g. "accuracy_iou50".
        counted: what is counted once: "answers", or "objects" if the protocol says so.
    """

    first: Result
    others: tuple[Versus, ...]
    main: str
    counted: str


def compare_results(results: Sequence[Result], *, seed: int = 0) -> Comparison:
    """Compare results with the first of them.

    Args:
        results: at least two.
        seed: of the bootstrap and the permutations.

    Raises:
        DataError: protocols differ, or records, gold answers or metrics do; says in what.
    """
    raise NotImplementedError
