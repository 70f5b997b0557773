"""COCO's evaluation of a whole data set: the twelve statistics, and the curves that they are computed from.

The numbers are those of pycocotools' `COCOeval` for boxes, the definition of "COCO mAP" in the literature. For one
image without scores, as a reward sees it, there is `geometry/average_precision.py`. Both agree where both apply, except
on empty sets: COCO leaves these out of its means, and a mean of nothing is −1.

Axes: R recalls, and those of `coco_matching`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vlm_r1.evaluation.coco_matching import (
    ALL,
    LARGE,
    MAX_DETECTIONS,
    MEDIUM,
    SMALL,
    Detections,
    GroundTruth,
    Matches,
    match,
)
from vlm_r1.geometry.boxes import BoolArray, FloatArray

RECALLS_R = np.linspace(0.0, 1.0, 101)

_IOU_50, _IOU_75 = 0, 5


@dataclass(frozen=True)
class CocoStatistics:
    """COCO's twelve numbers, in its order; each is in [0, 1], or −1 if there is no gold object for it.

    AP and AR are averaged over the categories and, unless a threshold is named, over the IoU thresholds 0.50, 0.55, …,
    0.95. AR is the share of gold objects that the best 1, 10 or 100 detections of each image and category find. Small,
    medium and large are areas up to 32², up to 96² and from 96² square pixels.
    """

    ap: float
    ap_50: float
    ap_75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar_1: float
    ar_10: float
    ar_100: float
    ar_small: float
    ar_medium: float
    ar_large: float


@dataclass(frozen=True)
class CocoCurves:
    """The values whose means are the statistics.

    Attributes:
        category_ids: the K categories of the ground truth, sorted.
        precision_TRKA: best precision of 100 detections at that recall or a higher one; −1 without a gold object.
        recall_TKAM: share of gold objects that are found; −1 without a gold object.
    """

    category_ids: tuple[int | str, ...]
    precision_TRKA: FloatArray
    recall_TKAM: FloatArray


def coco_statistics(detections: Detections, truth: GroundTruth) -> CocoStatistics:
    """Compute COCO's twelve numbers of a data set.

    They equal those of pycocotools up to rounding. It takes (x, y, width, height), but here boxes are corners: if their
    coordinates are not exact in binary, an IoU may differ in its last bit.

    Source: cocoapi, `COCOeval` with `iouType="bbox"`.

    >>> boxes = np.array([(0, 0, 50, 50), (60, 0, 90, 40)], dtype=float)
    >>> truth = GroundTruth(np.array([1, 2]), np.array([7, 7]), boxes)
    >>> found = Detections(np.array([1]), np.array([7]), boxes[:1], np.array([0.9]))
    >>> round(coco_statistics(found, truth).ap, 4), coco_statistics(found, truth).ar_100  # 51 of 101 recalls; 1 of 2
    (0.505, 0.5)
    """
    return summarize(coco_curves(detections, truth))


def summarize(curves: CocoCurves) -> CocoStatistics:
    """Compute the means that COCO reports."""
    precision_TRKA, recall_TKA = curves.precision_TRKA, curves.recall_TKAM[..., -1]
    return CocoStatistics(
        ap=_mean(precision_TRKA[..., ALL]),
        ap_50=_mean(precision_TRKA[_IOU_50, ..., ALL]),
        ap_75=_mean(precision_TRKA[_IOU_75, ..., ALL]),
        ap_small=_mean(precision_TRKA[..., SMALL]),
        ap_medium=_mean(precision_TRKA[..., MEDIUM]),
        ap_large=_mean(precision_TRKA[..., LARGE]),
        ar_1=_mean(curves.recall_TKAM[..., ALL, 0]),
        ar_10=_mean(curves.recall_TKAM[..., ALL, 1]),
        ar_100=_mean(recall_TKA[..., ALL]),
        ar_small=_mean(recall_TKA[..., SMALL]),
        ar_medium=_mean(recall_TKA[..., MEDIUM]),
        ar_large=_mean(recall_TKA[..., LARGE]),
    )


def average_precision_by_category(curves: CocoCurves) -> Mapping[int | str, float]:
    """Return the AP of each category over all IoU thresholds and areas; −1 for a category that has only crowds."""
    return {name: _mean(curves.precision_TRKA[:, :, k, ALL]) for k, name in enumerate(curves.category_ids)}


def coco_curves(detections: Detections, truth: GroundTruth) -> CocoCurves:
    """Match all detections; returns precision and recall of every category, IoU threshold and area range."""
    return curves_of(match(detections, truth))


def curves_of(matches: Matches) -> CocoCurves:
    """Return precision and recall of every category, IoU threshold and area range."""
    seen, gold, hit_ATN, skip_ATN = matches.seen, matches.gold, matches.hit_ATN, matches.skip_ATN
    K, (A, T, _) = len(matches.categories_K), hit_ATN.shape
    precision_TRKA = np.full((T, len(RECALLS_R), K, A), -1.0)
    recall_TKAM = np.full((T, K, A, len(MAX_DETECTIONS)), -1.0)
    counted_AK = np.stack([np.bincount(gold.category_N[~ignored_N], minlength=K) for ignored_N in gold.ignored_AN])
    by_score_N = np.lexsort((-seen.score_N, seen.category_N))  # stable: equal scores by image, then by rank
    bounds = np.searchsorted(seen.category_N[by_score_N], np.arange(K + 1))
    for k, a in np.argwhere(counted_AK.T > 0).tolist():
        at_N = by_score_N[bounds[k] : bounds[k + 1]]
        hit_TN, n_gold = hit_ATN[a][:, at_N], int(counted_AK[a, k])
        precision_TRKA[:, :, k, a] = _precision(hit_TN, skip_ATN[a][:, at_N], n_gold)
        for m, most in enumerate(MAX_DETECTIONS):
            recall_TKAM[:, k, a, m] = hit_TN[:, seen.rank_N[at_N] < most].sum(axis=1) / n_gold
    return CocoCurves(tuple(matches.categories_K.tolist()), precision_TRKA, recall_TKAM)


# ---- curves --------------------------------------------------------------------------------------------------------


def _precision(hit_TN: BoolArray, skip_TN: BoolArray, n_gold: int) -> FloatArray:
    """Return the best precision at each recall or a higher one, (T, R); 0 if the recall is never reached."""
    counted_TN = np.cumsum(~skip_TN, axis=1, dtype=np.int32)
    t, n = np.nonzero(hit_TN)
    found = np.arange(1, len(t) + 1) - np.searchsorted(t, np.arange(len(hit_TN)))[t]  # 1, 2, … at each threshold
    best_TG = np.zeros((len(hit_TN), n_gold))  # at the first, second, … found gold box
    best_TG[t, found - 1] = found / (counted_TN[t, n] + np.spacing(1.0))  # COCO's guard against 0 / 0
    best_TG = np.maximum.accumulate(best_TG[:, ::-1], axis=1)[:, ::-1]
    return best_TG[:, np.searchsorted(np.arange(1, n_gold + 1) / n_gold, RECALLS_R)]


def _mean(values: FloatArray) -> float:
    """Return the mean of the values that are defined; −1 if there are none."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0
