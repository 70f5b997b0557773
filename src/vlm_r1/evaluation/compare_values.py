"""What a comparison of results of evaluations holds; `compare.compare_results` makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
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
        samples: lines of `NAME.samples.jsonl`, in the order of the records; in a comparison with the metrics and
            reasons of the protocol.
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
        n: records that have the metric, each the mean over its draws; of a protocol that counts objects, the objects.
        images: clusters of records; a cluster has the same images.
        first, other: mean of each result.
        difference: other − first.
        ci95: 95 % bootstrap interval of the difference, images drawn whole.
        mcnemar_p: McNemar's exact p of a metric that is always 0 or 1; None for others. It takes all records as
            independent, so it is too small if images have several records that are alike.
        permutation_p: p of the paired permutation: the signs of whole images flipped, two-sided.
        better, worse, equal: records whose value in the other result is greater, smaller, the same; of an error,
            smaller is better.
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
        """The p to report: McNemar's where it holds, that is if no image has two records, else the permutation's."""
        return self.permutation_p if self.mcnemar_p is None or self.images < self.n else self.mcnemar_p


@dataclass(frozen=True)
class SubsetDifferences:
    """The differences in a part of the records.

    Attributes:
        key, value: e.g. "box_size" and "small"; see `subset_of`.
        metrics: as of all records; metrics that no record of the subset has are left out.
    """

    key: str
    value: str
    metrics: tuple[Difference, ...]


@dataclass(frozen=True)
class WholeDifference:
    """How a number differs that is no mean over the same records, e.g. AP of a whole set, or the precision of "none".

    Attributes:
        metric: e.g. "dataset_ap".
        first, other: the number of each result.
        difference: other − first.
        ci95: 95 % interval of the difference, images drawn together for both; None: not computed.
    """

    metric: str
    first: float
    other: float
    difference: float
    ci95: tuple[float, float] | None


@dataclass(frozen=True)
class Versus:
    """One result against the first.

    Attributes:
        other: the result that is compared with the first.
        pairs: all pairs, in the order of the first result.
        metrics: a difference for each metric that both results have in the same records, the main one first.
        subsets: by key, in a fixed order, then by value; keys with one value are left out.
        better, worse: the pairs whose main metric rises or falls, the largest change first; of equal ones, in order.
            Of an accuracy these are the flips: wrong → right, and right → wrong.
        whole: numbers that are no means over the same records.
    """

    other: Result
    pairs: tuple[Pair, ...]
    metrics: tuple[Difference, ...]
    subsets: tuple[SubsetDifferences, ...]
    better: tuple[Pair, ...]
    worse: tuple[Pair, ...]
    whole: tuple[WholeDifference, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Results against the first of them.

    Attributes:
        first: the result that the others are compared with.
        others: each of the others against the first, in the order given.
        main: the main metric, e.g. "accuracy_iou50".
        counted: what counts once: "records", or "objects" if the protocol says so.
    """

    first: Result
    others: tuple[Versus, ...]
    main: str
    counted: str


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return everything that a comparison found as JSON, for `vlm-r1 compare --json` (docs/evaluation.md)."""
    main = comparison.main
    return {
        "first": {"label": comparison.first.label, "path": str(comparison.first.path)},
        "main": main,
        "counted": comparison.counted,
        "against_first": [
            {
                "label": versus.other.label,
                "path": str(versus.other.path),
                "metrics": _by_metric(versus.metrics),
                "whole": {one.metric: _fields(one) for one in versus.whole},
                "subsets": [
                    {"key": part.key, "value": part.value, "metrics": _by_metric(part.metrics)}
                    for part in versus.subsets
                ],
                "better": [_flip(pair, main) for pair in versus.better],
                "worse": [_flip(pair, main) for pair in versus.worse],
            }
            for versus in comparison.others
        ],
    }


def _by_metric(differences: tuple[Difference, ...]) -> dict[str, dict[str, Any]]:
    return {one.metric: {**_fields(one), "p": one.p} for one in differences}


def _fields(one: Difference | WholeDifference) -> dict[str, Any]:
    return {name: value for name, value in asdict(one).items() if name != "metric"}


def _flip(pair: Pair, metric: str) -> dict[str, Any]:
    first, other = ({key: getattr(sample, key) for key in _ANSWER} for sample in (pair.first, pair.other))
    values = {"change": pair.change(metric), "first": first, "other": other}
    return {"record_id": pair.first.record_id, "draw": pair.first.draw, "source": pair.first.source, **values}


_ANSWER = ("text", "answer", "reason", "metrics")
