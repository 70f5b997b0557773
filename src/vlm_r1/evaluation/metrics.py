"""Computes means with bootstrap intervals, of independent samples or of clusters such as all samples of an image.

Answers about one image are alike: whoever draws samples one by one as if they were independent gets an interval that is
too narrow. So whole clusters are drawn. A mean is then a ratio, (sum of values) / (number of values), in which both
differ from draw to draw.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

DRAWS_AT_ONCE = 4_000_000  # 32 MB of indices for any number of clusters
RESAMPLES = 10_000

MOST_DRAWN = 2_048
"""More clusters than these are not drawn one by one: how often values occur that are nearly equal is drawn instead."""

_CUTS = 128


@dataclass(frozen=True)
class Summary:
    """A metric over a set of n samples: its mean and the 95 % interval of the mean, e.g. 0.61, (0.57, 0.65), 512."""

    mean: float
    ci95: tuple[float, float]
    n: int


def less_is_better(metric: str) -> bool:
    """Return whether a smaller value of a metric is the better one: it is an error, by its name.

    >>> less_is_better("relative_error"), less_is_better("accuracy")
    (True, False)
    """
    return metric.endswith("_error")


def summarize(values_N: Sequence[float], *, clusters_N: Sequence[Hashable] | None = None, seed: int = 0) -> Summary:
    """Compute mean, 95 % bootstrap interval and size of a metric over a set of samples; see `bootstrap_ci`.

    Raises:
        ValueError: there are no values, or one is not finite.

    >>> summarize([1.0, 1.0, 1.0])
    Summary(mean=1.0, ci95=(1.0, 1.0), n=3)
    """
    low_high = bootstrap_ci(values_N, clusters_N=clusters_N, seed=seed)
    return Summary(mean=float(np.mean(values_N)), ci95=low_high, n=len(values_N))


def bootstrap_ci(
    values_N: Sequence[float],
    *,
    clusters_N: Sequence[Hashable] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> tuple[float, float]:
    """Compute the bootstrap interval of the mean: the middle `level` of the means of sets drawn with replacement.

    The same values in the same order, with the same seed, give the same interval. One cluster, or equal values, give
    an interval without width. It does not show the uncertainty, so n must be read with it.

    Args:
        values_N: one finite number for each sample, e.g. 0.0 or 1.0 for wrong or right.
        clusters_N: what each sample belongs to, e.g. its image; clusters are drawn whole. None: each to itself.
        seed: seed of the resampling.
        resamples: number of sets drawn; 10,000 leave an error in each end of about 0.03 standard errors of the mean.
        level: intended coverage, in (0, 1).

    Returns:
        (low, high).

    Raises:
        ValueError: there are no values, or one is not finite.

    Source: B. Efron, R. Tibshirani, "An Introduction to the Bootstrap" (1993), section 13.3; of clusters: A. Davison,
    D. Hinkley, "Bootstrap Methods and their Application" (1997), section 3.8.

    >>> low, high = bootstrap_ci([0.0] * 40 + [1.0] * 60)
    >>> round(low, 2), round(high, 2)
    (0.5, 0.69)
    >>> low, high = bootstrap_ci([0.0] * 40 + [1.0] * 60, clusters_N=[n // 10 for n in range(100)])
    >>> round(low, 2), round(high, 2)
    (0.3, 0.9)
    """
    values = np.asarray(values_N, dtype=np.float64)
    if clusters_N is None:
        return ratio_ci(values, np.ones_like(values), seed=seed, resamples=resamples, level=level)
    number: dict[Hashable, int] = {}
    cluster_N = np.array([number.setdefault(one, len(number)) for one in clusters_N], dtype=np.int64)
    if values.shape != cluster_N.shape:
        raise ValueError(f"{values.shape} values belong to {cluster_N.shape} clusters; wanted one for each")
    _check(values)
    sums_M, counts_M = np.bincount(cluster_N, values), np.bincount(cluster_N).astype(np.float64)
    return ratio_ci(sums_M, counts_M, seed=seed, resamples=resamples, level=level)


def ratio_ci(
    above_M: npt.ArrayLike, below_M: npt.ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES, level: float = 0.95
) -> tuple[float, float]:
    """Compute the bootstrap interval of Σ above / Σ below over clusters, e.g. of right boxes to all boxes of an image.

    Above `MOST_DRAWN` clusters, those with nearly the same r = above − ratio · below are pooled, at most 256 pools,
    each with its mean. How often each pool is drawn is multinomial, so the cost does not grow with the number of
    clusters. Pools are narrow in r and in rank, which keeps outliers apart; the width changes by under a thousandth.

    Args:
        above_M, below_M: finite numbers of each of M clusters. `below_M` is not negative, and one of it is positive.
        seed, resamples, level: see `bootstrap_ci`.

    Raises:
        ValueError: there are no clusters, a number is not finite, or `below_M` is zero or negative.

    >>> low, high = ratio_ci([2, 0], [2, 1])  # both twice, one each, the other twice
    >>> low, high
    (0.0, 1.0)
    """
    above, below = np.asarray(above_M, dtype=np.float64), np.asarray(below_M, dtype=np.float64)
    _check(above)
    _check(below)
    if above.shape != below.shape or (below < 0).any() or not below.any():
        raise ValueError(f"a ratio of {above} to {below} is not defined")
    ratio = float(above.sum() / below.sum())
    if above.size == 1:
        return ratio, ratio
    generator = np.random.default_rng(seed)
    if above.size <= MOST_DRAWN:
        drawn = _draw_clusters(above, below, generator, resamples)
    else:
        drawn = _draw_pools(above, below, ratio, generator, resamples)
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _draw_clusters(above_M: FloatArray, below_M: FloatArray, generator: Any, resamples: int) -> FloatArray:
    """Draw all clusters with replacement; NaN for a set without anything below, which has no ratio."""
    M, drawn = above_M.size, list[FloatArray]()
    at_once = max(1, DRAWS_AT_ONCE // M)
    for start in range(0, resamples, at_once):
        index = generator.integers(0, M, (min(at_once, resamples - start), M))
        drawn.append(_ratios(above_M[index].sum(axis=1), below_M[index].sum(axis=1)))
    return np.concatenate(drawn)


def _draw_pools(above_M: FloatArray, below_M: FloatArray, ratio: float, generator: Any, resamples: int) -> FloatArray:
    rest_M = above_M - ratio * below_M
    order = np.argsort(rest_M, kind="stable")
    sorted_M = rest_M[order]
    by_rank = np.arange(rest_M.size) * _CUTS // rest_M.size
    by_rank = by_rank[np.searchsorted(sorted_M, sorted_M, side="left")]  # equal ones together
    spread = max(float(sorted_M[-1] - sorted_M[0]), float(np.finfo(np.float64).tiny))
    by_value = np.minimum((sorted_M - sorted_M[0]) / spread * _CUTS, _CUTS - 1).astype(np.int64)
    starts = np.flatnonzero(np.diff(by_rank * _CUTS + by_value, prepend=-1))
    sizes = np.diff(starts, append=rest_M.size)
    rests, belows = (np.add.reduceat(side[order], starts) / sizes for side in (rest_M, below_M))
    times = generator.multinomial(rest_M.size, sizes / rest_M.size, size=resamples).astype(np.float64)
    return ratio + _ratios(times @ rests, times @ belows)


def _ratios(above_B: FloatArray, below_B: FloatArray) -> FloatArray:
    return np.divide(above_B, below_B, out=np.full(above_B.shape, np.nan), where=below_B > 0)


def _check(values: FloatArray) -> None:
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"an interval needs at least one value, and only finite ones; got {values}")
