"""Compares results of evaluations, record by record: differences with intervals and p values, and what flipped.

Answers are paired by record, so what both results find easy or hard cancels out. Answers about the same images are
alike; intervals and permutations therefore draw whole images. A metric has the values, and a record the weight, that
`measures.measure` gives it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vlm_r1.errors import DataError
from vlm_r1.evaluation.compare_pairs import check_protocols, pair_samples
from vlm_r1.evaluation.compare_sets import ap_half_widths
from vlm_r1.evaluation.compare_values import (
    Comparison,
    Difference,
    Pair,
    Result,
    SubsetDifferences,
    Versus,
    WholeDifference,
)
from vlm_r1.evaluation.measures import (
    NO_PROTOCOL,
    MeasuredRecord,
    MetricTable,
    make_table,
    measure_records,
    split_records,
)
from vlm_r1.evaluation.metrics import FloatArray, less_is_better, ratio_ci
from vlm_r1.evaluation.protocol import Protocol, as_protocol
from vlm_r1.evaluation.samples import Sample
from vlm_r1.evaluation.significance import mcnemar_p, permutation_p
from vlm_r1.parsing.json_values import is_number, is_object

_ASKING = ("data", "task", "template", "system_prompt", "decoding", "sample")
"""Keys of a protocol that decide what is asked. What was asked is known, and a task that is code is not run here."""

_LARGEST = 1e100  # bound of a value, so that sums are finite


@dataclass(frozen=True)
class _Measured:
    """A result whose samples are measured by its protocol; see `measures`."""

    result: Result
    protocol: Protocol
    records: list[MeasuredRecord]
    table: MetricTable

    def values(self, metric: str) -> FloatArray:
        """Return the metric of each record, (R,); NaN where there is none."""
        return self.table.values_RF[:, self.table.names.index(metric)]


def compare_results(results: Sequence[Result], *, seed: int = 0) -> Comparison:
    """Compare results with the first of them.

    Args:
        results: at least two.
        seed: of the bootstrap and the permutations.

    Raises:
        DataError: protocols, records or gold answers differ, or there is no metric to compare; says in what.
        ConfigError: the protocol of a result is damaged.

    Source: of comparisons by pairs and clusters, E. Miller, "Adding Error Bars to Evals" (arXiv 2411.00640).
    """
    first, *others = results
    for other in others:
        check_protocols(first, other)
    aligned = [[pair.other for pair in pair_samples(first, other)] for other in others]
    ours = _measure(first, first.samples)
    theirs = [_measure(other, samples) for other, samples in zip(others, aligned, strict=True)]
    metrics = _shared_metrics(ours, theirs)
    return Comparison(
        first=ours.result,
        others=tuple(_versus(ours, own, metrics, seed) for own in theirs),
        main=metrics[0],
        counted="objects" if ours.protocol.level == "object" else "records",
    )


def _measure(result: Result, samples: Sequence[Sample]) -> _Measured:
    protocol = _protocol(result)
    records = measure_records(samples, protocol)
    table = make_table(records, protocol)
    if not np.nanmax(np.abs(table.values_RF), initial=0.0) < _LARGEST:
        raise DataError(f"{result.path}: the samples hold a metric beyond {_LARGEST:g}, which none has")
    measured = tuple(
        replace(sample, metrics=values.metrics, reason=values.reason)
        for record in records
        for sample, values in zip(record.samples, record.values, strict=True)
    )
    return _Measured(replace(result, samples=measured), protocol, records, table)


def _protocol(result: Result) -> Protocol:
    found = result.summary.get("protocol")
    if found is None:
        return NO_PROTOCOL
    known = {key: found[key] for key in Protocol.model_fields if key in found and key not in _ASKING}
    return as_protocol({**known, "data": {"set": "any"}}, f"in {result.path}")


def _shared_metrics(ours: _Measured, theirs: Sequence[_Measured]) -> list[str]:
    """Return the metrics that all results have in the same records, the protocol's first.

    Raises:
        DataError: there is none that each answer has for itself.
    """
    names = dict.fromkeys([*(name for name in ours.protocol.metrics if name in ours.table.names), *ours.table.names])
    shared = [name for name in names if all(_is_shared(name, ours, own) for own in theirs)]
    of_answers = {name for sample in ours.result.samples for name in sample.metrics}
    main = next((name for name in shared if name in of_answers), None)
    if main is None:
        has = ", ".join(names) or "none"
        raise DataError(f"{ours.result.path}: no metric of it ({has}) is in the same records of the other results")
    return [main, *(name for name in shared if name != main)]


def _is_shared(name: str, ours: _Measured, own: _Measured) -> bool:
    if name not in own.table.names:
        return False
    return bool((np.isnan(ours.values(name)) == np.isnan(own.values(name))).all())


def _versus(ours: _Measured, own: _Measured, metrics: Sequence[str], seed: int) -> Versus:
    main = metrics[0]
    pairs = tuple(Pair(*both) for both in zip(ours.result.samples, own.result.samples, strict=True))
    sign = -1.0 if less_is_better(main) else 1.0
    changes = [(sign * pair.change(main), pair) for pair in pairs if main in pair.first.metrics]
    changes.sort(key=lambda change: -change[0])
    every = np.arange(len(ours.records))
    return Versus(
        other=own.result,
        pairs=pairs,
        metrics=tuple(_differences(ours, own, metrics, every, seed)),
        subsets=tuple(_subset_differences(ours, own, metrics, seed)),
        better=tuple(pair for change, pair in changes if change > 0),
        worse=tuple(pair for change, pair in sorted(changes, key=lambda change: change[0]) if change < 0),
        whole=tuple(_whole_differences(ours, own, metrics, seed)),
    )


def _subset_differences(
    ours: _Measured, own: _Measured, metrics: Sequence[str], seed: int
) -> Iterator[SubsetDifferences]:
    for key, values in split_records(ours.records, ours.protocol).items():
        for value, members in values.items():
            yield SubsetDifferences(key, value, tuple(_differences(ours, own, metrics, np.array(members), seed)))


def _differences(
    ours: _Measured, own: _Measured, metrics: Sequence[str], index: Any, seed: int
) -> Iterator[Difference]:
    """Yield the differences over some of the records; metrics that none of them has are left out."""
    unit_R, picture_R = ours.table.unit_R[index], ours.table.picture_R[index]
    for metric in metrics:
        both_2R = np.stack([ours.values(metric)[index], own.values(metric)[index]])
        has_R = ~np.isnan(both_2R[0])
        if has_R.any():
            yield _difference(metric, both_2R[:, has_R], unit_R[has_R], picture_R[has_R], seed)


def _difference(metric: str, both_2R: FloatArray, unit_R: Any, picture_R: Any, seed: int) -> Difference:
    _, start_U, unit_R = np.unique(unit_R, return_index=True, return_inverse=True)
    first_U, other_U = (np.bincount(unit_R, values_R) / np.bincount(unit_R) for values_R in both_2R)
    _, picture_U = np.unique(picture_R[start_U], return_inverse=True)
    change_U, n_M = other_U - first_U, np.bincount(picture_U)
    rising, falling = int((change_U > 0).sum()), int((change_U < 0).sum())
    better, worse = (falling, rising) if less_is_better(metric) else (rising, falling)
    is_right_or_wrong = bool(np.isin([first_U, other_U], (0.0, 1.0)).all())
    return Difference(
        metric=metric,
        n=len(change_U),
        images=len(n_M),
        first=float(first_U.mean()),
        other=float(other_U.mean()),
        difference=float(change_U.mean()),
        ci95=ratio_ci(np.bincount(picture_U, change_U), n_M, seed=seed),
        mcnemar_p=mcnemar_p(better, worse) if is_right_or_wrong else None,
        permutation_p=permutation_p(change_U, clusters_N=picture_U.tolist(), seed=seed),
        better=better,
        worse=worse,
        equal=len(change_U) - better - worse,
    )


def _whole_differences(ours: _Measured, own: _Measured, metrics: Sequence[str], seed: int) -> Iterator[WholeDifference]:
    """Yield what both results report but no record has for itself, or other records have than in the other result."""
    one, two = (_reported(measured.result.summary) for measured in (ours, own))
    names = [name for name in one if name in two and name not in metrics]
    halves = _ap_half_widths(ours, own, seed) if {"dataset_ap", "nms_ap"} & set(names) else {}
    for name in names:
        change = two[name] - one[name]
        half = halves.get(name)
        ci95 = None if half is None else (change - half, change + half)
        yield WholeDifference(name, one[name], two[name], change, ci95)


def _ap_half_widths(ours: _Measured, own: _Measured, seed: int) -> dict[str, float]:
    detected = [
        (mine.detected, yours.detected)
        for mine, yours in zip(ours.records, own.records, strict=True)
        if mine.detected and yours.detected
    ]
    if not detected:
        return {}
    k = min(len(answers) for both in detected for answers in both)
    first, other = ([[both[side][draw] for both in detected] for draw in range(k)] for side in (0, 1))
    return ap_half_widths(first, other, ours.protocol.confidence, seed)


def _reported(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the means that a result reports, and its format rate."""
    means: dict[str, Any] = {
        name: value.get("mean") if is_object(value) else None for name, value in summary["metrics"].items()
    }
    means["format_rate"] = summary.get("format_rate")
    return {name: float(value) for name, value in means.items() if is_number(value)}
