"""Tests of paired differences: would they be as large if neither of two models were better?"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vlm_r1.evaluation.metrics import RESAMPLES, FloatArray

SIGNS_AT_ONCE = 4_000_000  # 32 MB


def mcnemar_p(better: int, worse: int) -> float:
    """Compute the two-sided p of McNemar's exact test: a fair coin for each pair of which one answer alone is right.

    It takes the pairs as independent.

    Source: Q. McNemar, Psychometrika 12 (1947); exact: the binomial distribution with probability 1/2.

    >>> mcnemar_p(5, 1)  # 2 · (1 + 6) / 2⁶
    0.21875
    """
    if not better + worse:
        return 1.0
    from scipy import stats  # takes half a second to import

    tests: Any = stats  # without types
    return float(tests.binomtest(min(better, worse), better + worse).pvalue)


def permutation_p(
    differences_N: npt.ArrayLike,
    *,
    clusters_N: Sequence[Hashable] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> float:
    """Compute the two-sided p of the paired permutation test of a mean difference, whole clusters exchanged.

    If neither model is better, all answers of a cluster could as well have been given by the other model: the sign of
    its sum is a fair coin. p is the share of all signs that give a sum as far from 0 as the one that was seen. If there
    are more than `resamples` ways to choose signs, so many are drawn, and the one that was seen counts too; p is then
    at least 1 / (resamples + 1).

    Args:
        differences_N: one finite number for each pair.
        clusters_N: what each pair belongs to, e.g. its image; None: each to itself.
        seed: of the draws.

    Raises:
        ValueError: a difference is not finite, or has no cluster.

    Source: B. Phipson, G. Smyth, "Permutation P-values should never be zero" (2010).

    >>> permutation_p([1, 1, 1, 1])  # all signs equal: 2 of 2⁴
    0.125
    >>> permutation_p([1, 1, 1, 1], clusters_N=["a", "a", "b", "b"])  # 2 of 2²
    0.5
    """
    differences = np.asarray(differences_N, dtype=np.float64)
    if not np.isfinite(differences).all() or (clusters_N is not None and len(clusters_N) != differences.size):
        raise ValueError(f"wanted finite differences and a cluster for each; got {differences}")
    number: dict[Hashable, int] = {}
    names = range(differences.size) if clusters_N is None else clusters_N
    cluster_N = np.array([number.setdefault(name, len(number)) for name in names], dtype=np.int64)
    sums_M = np.bincount(cluster_N, differences).astype(np.float64)
    tolerance = 1e-9 * float(np.abs(sums_M).sum())  # sums of the same numbers in another order are equal
    sums_M = sums_M[np.abs(sums_M) > tolerance / max(1, sums_M.size)]
    M, wanted = sums_M.size, abs(float(sums_M.sum())) - tolerance
    if resamples >= 2**M:
        ways_B1 = np.arange(2**M, dtype=np.int64)[:, None]
        flipped_BM = (np.right_shift(ways_B1, np.arange(M)) & 1).astype(np.float64)
        return float(np.mean(_distances(flipped_BM, sums_M) >= wanted))
    generator, at_once, as_far = np.random.default_rng(seed), max(1, SIGNS_AT_ONCE // M), 1
    for start in range(0, resamples, at_once):
        B = min(at_once, resamples - start)
        flipped_BM = np.unpackbits(np.frombuffer(generator.bytes(B * M // 8 + 1), np.uint8), count=B * M).reshape(B, M)
        as_far += int(np.count_nonzero(_distances(flipped_BM.astype(np.float64), sums_M) >= wanted))
    return as_far / (resamples + 1)


def _distances(flipped_BM: FloatArray, sums_M: FloatArray) -> FloatArray:
    """Return how far from 0 the sums are, if those where `flipped_BM` is 1 have the other sign."""
    return np.abs(sums_M.sum() - 2 * (flipped_BM @ sums_M))
