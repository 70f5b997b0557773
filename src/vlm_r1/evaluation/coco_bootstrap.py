"""Draws images with replacement, and computes COCO's AP of each set drawn.

Nothing is matched again. An image that is drawn w times counts w times, so each detection and each gold box has the
weight of its image. Copies of an image stand beside one another in the order of equal scores.

The best precision at a recall or a higher one is a maximum, so AP of a small set is too high on average, and that of a
set with copies even more. The quantiles of the sets drawn would not lie around the AP that was measured. Their standard
deviation is right, so the interval is AP ± 1.96 of these.

Axes: B sets drawn, I images, K categories, T IoU thresholds, S segments (a category at a threshold), H right
detections, each as often as there are thresholds that it reaches.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from vlm_r1.evaluation.coco_matching import ALL, IntArray, Matches
from vlm_r1.evaluation.coco_statistics import RECALLS_R
from vlm_r1.geometry.boxes import FloatArray

RESAMPLES = 200
"""Sets drawn; their standard deviation is uncertain by 5 %. Large data sets have at least `FEWEST`: by 10 %."""

FEWEST = 50

_WORK = 60_000_000  # right detections and others, over all sets drawn; some ten seconds

_NORMAL = 1.96  # of 95 %


class _Sorted(NamedTuple):
    """Detections by category and falling score, and the right ones among them."""

    image_N: IntArray
    first_N: IntArray  # index of the first detection of its category
    at_H: IntArray  # index of the detection
    first_H: IntArray  # index of the first of its segment, among the H
    segment_H: IntArray  # threshold · K + category
    gold_image_N: IntArray
    gold_category_N: IntArray


def bootstrap_ap(matches: Matches, cluster_I: IntArray, clusters: int, *, seed: int) -> FloatArray:
    """Compute AP and AP50 of sets of clusters that are drawn with replacement.

    Args:
        matches: of detections with gold boxes without crowds.
        cluster_I: the cluster of each image of `matches.images_I`, e.g. of all questions about one picture.
        clusters: their number, with those that have no object.
        seed: seed of the resampling; the same clusters and seed draw the same sets.

    Returns:
        (B, 2); NaN for sets without a gold box.

    Raises:
        ValueError: a gold box is a crowd.
    """
    if matches.gold.crowd_N.any():
        raise ValueError("the intervals of AP are not defined with crowds")
    rows, generator, K = _sort(matches), np.random.default_rng(seed), len(matches.categories_K)
    resamples = min(RESAMPLES, max(FEWEST, _WORK // (len(rows.image_N) + len(rows.at_H) + 1)))
    drawn = np.empty((resamples, 2))
    for b in range(resamples):
        times = np.bincount(generator.integers(0, clusters, clusters), minlength=clusters)
        drawn[b] = _ap(rows, times[cluster_I].astype(np.float64), K, matches.hit_ATN.shape[1])
    return drawn


def interval(measured: float, drawn_B: FloatArray) -> tuple[float, float]:
    """Return measured ± 1.96 standard deviations of what was drawn, within [0, 1].

    >>> low, high = interval(0.5, np.array([0.4, 0.6, 0.5, 0.7, 0.3]))
    >>> round(low, 2), round(high, 2)  # 0.5 ± 1.96 · 0.158
    (0.19, 0.81)
    """
    half = _NORMAL * float(np.nanstd(drawn_B, ddof=1))
    return max(0.0, measured - half), min(1.0, measured + half)


def weighted_ap(matches: Matches, weights_I: FloatArray) -> tuple[float, float]:
    """Compute AP and AP50 where each image counts as often as its weight says.

    Args:
        matches: of detections with gold boxes without crowds.
        weights_I: a weight, not negative, for each image of `matches.images_I`.
    """
    return _ap(_sort(matches), weights_I, len(matches.categories_K), matches.hit_ATN.shape[1])


def _sort(matches: Matches) -> _Sorted:
    seen, gold, K = matches.seen, matches.gold, len(matches.categories_K)
    order = np.lexsort((-seen.score_N, seen.category_N))
    category_N = seen.category_N[order]
    threshold_H, at_H = np.nonzero(matches.hit_ATN[ALL][:, order])
    segment_H = threshold_H * K + category_N[at_H]
    return _Sorted(
        image_N=seen.image_N[order],
        first_N=np.searchsorted(category_N, category_N),
        at_H=at_H,
        first_H=np.searchsorted(segment_H, segment_H),
        segment_H=segment_H,
        gold_image_N=gold.image_N,
        gold_category_N=gold.category_N,
    )


def _ap(rows: _Sorted, weights_I: FloatArray, n_categories: int, n_thresholds: int) -> tuple[float, float]:
    gold_K = np.bincount(rows.gold_category_N, weights_I[rows.gold_image_N], minlength=n_categories)
    there = gold_K > 0
    if not there.any():
        return float("nan"), float("nan")
    weight_N = weights_I[rows.image_N]
    weight_H = weight_N[rows.at_H]
    counted_H = _running(weight_N, rows.first_N)[rows.at_H]
    right_H = _running(weight_H, rows.first_H)
    precision_H = right_H / np.maximum(counted_H, 1e-300)
    # the best from here to the end of the segment: segments are lifted so that the later one never outranks an earlier
    lift_H = 2.0 * (rows.segment_H[-1] - rows.segment_H) if len(rows.segment_H) else precision_H
    best_H = np.maximum.accumulate((precision_H + lift_H)[::-1])[::-1] - lift_H
    recall_H = right_H / np.maximum(gold_K[rows.segment_H % n_categories], 1e-300)
    reached_H = np.where(right_H > 0, np.searchsorted(RECALLS_R, recall_H, side="right"), 0)  # 0, 0.01, … up to this
    before_H = np.where(np.arange(len(reached_H)) == rows.first_H, 0, np.roll(reached_H, 1))
    area_H: Any = best_H * (reached_H - before_H)
    ap_S = np.bincount(rows.segment_H, area_H, minlength=n_thresholds * n_categories) / len(RECALLS_R)
    ap_TK = ap_S.reshape(n_thresholds, n_categories)[:, there]
    return float(ap_TK.mean()), float(ap_TK[0].mean())


def _running(weight_N: FloatArray, first_N: IntArray) -> FloatArray:
    """Return the sum of the weights from the first of each segment."""
    total_N = np.cumsum(weight_N)
    return total_N - (total_N - weight_N)[first_N]
