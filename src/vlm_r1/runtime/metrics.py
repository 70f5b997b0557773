"""Metrics that know their reduction, so that a step's numbers are the same for one process and for many."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Reduction = Literal["mean", "sum", "max"]


@dataclass(frozen=True)
class Metric:
    """The share of one process: sum (`total`), number and sum of squares of its values; or their maximum in `total`."""

    reduction: Reduction
    total: float
    count: float = 0.0
    squares: float = math.nan

    def __add__(self, other: Metric) -> Metric:
        if self.reduction == "max":
            return Metric("max", max(self.total, other.total))
        return Metric(self.reduction, self.total + other.total, self.count + other.count, self.squares + other.squares)


def mean_of(values: Iterable[float]) -> Metric:
    """Make a mean and an unbiased standard deviation of the values of all processes."""
    values = list(values)
    return Metric("mean", total(values), len(values), total(v * v for v in values))


def total(values: Iterable[float]) -> float:
    """Sum exactly, and to infinity or NaN where `math.fsum` raises.

    >>> total([0.1] * 10), total([1e308, 1e308]), total([math.inf, -math.inf])
    (1.0, inf, nan)
    """
    values = list(values)
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        return sum(values)


def ratio(summed: float, count: float) -> Metric:
    """Make a mean from its sum and count."""
    return Metric("mean", summed, count)


def reduce_metrics(
    metrics: Mapping[str, Metric], gather: Callable[[list[Mapping[str, Metric]]], Sequence[Mapping[str, Metric]]]
) -> dict[str, float]:
    """Combine the metrics of all processes, once per step.

    Means given by `mean_of` become two numbers, `<name>/mean` and `<name>/std`; others keep their name. A mean without
    values is left out.

    Args:
        gather: accelerate's `gather_object`.
    """
    combined: dict[str, Metric] = {}
    for own in gather([metrics]):
        for name, metric in own.items():
            combined[name] = combined[name] + metric if name in combined else metric
    numbers: dict[str, float] = {}
    for name, metric in combined.items():
        if metric.reduction != "mean":
            numbers[name] = metric.total
        elif metric.count and math.isnan(metric.squares):
            numbers[name] = metric.total / metric.count
        elif metric.count:
            numbers[f"{name}/mean"] = metric.total / metric.count
            numbers[f"{name}/std"] = _std(metric)
    return numbers


def _std(metric: Metric) -> float:
    if metric.count < 2:
        return 0.0
    variance = (metric.squares - metric.total * metric.total / metric.count) / (metric.count - 1)
    return math.sqrt(max(variance, 0.0))
