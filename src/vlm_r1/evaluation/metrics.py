"""Computes means with bootstrap intervals."""

# pyright: standard

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

DRAWS_AT_ONCE = 4_000_000  # 32 MB of indices for any number of values


@dataclass(frozen=True)
class Summary:
    """A metric over a set of n samples: its mean and the 95 % interval of the mean, e.g. 0.61, (0.57, 0.65), 512."""

    mean: float
    ci95: tuple[float, float]
    n: int


def summarize(values_N: Sequence[float], *, seed: int = 0) -> Summary:
    """Compute mean, 95 % bootstrap interval and size of a metric over a set of samples.

    Raises:
        ValueError: there are no values, or one is not finite.

    >>> summarize([1.0, 1.0, 1.0])
    Summary(mean=1.0, ci95=(1.0, 1.0), n=3)
    """
    low_high = bootstrap_ci(values_N, seed=seed)
    return Summary(mean=float(np.mean(values_N)), ci95=low_high, n=len(values_N))


def bootstrap_ci(
    values_N: Sequence[float], *, seed: int = 0, resamples: int = 10_000, level: float = 0.95
) -> tuple[float, float]:
    """Compute the bootstrap interval of the mean: the middle `level` of the means of sets drawn with replacement.

    The same values in the same order, with the same seed, give the same interval. One value, or equal values, give an
    interval without width. It does not show the uncertainty, so n must be read with it.

    Args:
        values_N: one finite number for each sample, e.g. 0.0 or 1.0 for wrong or right.
        seed: seed of the resampling.
        resamples: number of sets drawn; 10,000 leave an error in each end of about 0.03 standard errors of the mean.
        level: intended coverage, in (0, 1).

    Returns:
        (low, high).

    Raises:
        ValueError: there are no values, or one is not finite.

    Source: B. Efron, R. Tibshirani, "An Introduction to the Bootstrap" (1993), section 13.3.

    >>> low, high = bootstrap_ci([0.0] * 40 + [1.0] * 60)
    >>> round(low, 2), round(high, 2)
    (0.5, 0.69)
    """
    values = np.asarray(values_N, dtype=np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"an interval needs at least one value, and only finite ones; got {values}")
    if values.size == 1:
        return float(values[0]), float(values[0])
    interval = bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, DRAWS_AT_ONCE // values.size),
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)
