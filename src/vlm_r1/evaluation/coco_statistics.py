"""COCO's evaluation of a whole data set: the twelve statistics, and the curves that they are computed from.

The numbers are those of pycocotools' `COCOeval` for boxes, the definition of "COCO mAP" in the literature. For one
image without scores, as a reward sees it, there is `geometry/average_precision.py`. Both agree where both apply, except
on empty sets: COCO leaves these out of its means, and a mean of nothing is −1.

COCO's steps, in its own order:

* For each image and category, sort the detections by falling score, equal scores in the order given; keep 100.
* In that order, each detection takes the free gold box that it overlaps most, if the IoU reaches the threshold; among
  equal ones, the last. Some gold boxes are ignored: crowds, and those outside the area range. They are taken only if no
  other box can be. Then the detection is neither right nor wrong. A crowd stays free.
* A detection that takes no box is wrong, or is left out if its own area is outside the range.
* Sort the detections of all images of a category by falling score, equal scores by image id. They give the precision at
  101 recalls.

Axes: N objects, I images, K categories, T IoU thresholds, R recalls, A area ranges, M numbers of detections.

Here all images, categories, thresholds and area ranges go through these steps together: first the first detections of
all images and categories, then the second ones, at most 100 times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vlm_r1.geometry.average_precision import COCO_IOU_THRESHOLDS
from vlm_r1.geometry.boxes import BoolArray, FloatArray, box_areas, paired_iou

IntArray = npt.NDArray[np.int64]
IdArray = npt.NDArray[np.integer[Any] | np.str_]

AREA_RANGES_PX2 = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))
"""All, small, medium and large objects: least and greatest area in square pixels, both included."""

MAX_DETECTIONS = (1, 10, 100)
"""How many detections with the best scores count in each image and category. Precision is that of 100."""

RECALLS_R = np.linspace(0.0, 1.0, 101)

_THRESHOLDS_T = np.array(COCO_IOU_THRESHOLDS)
_ALL, _SMALL, _MEDIUM, _LARGE = range(len(AREA_RANGES_PX2))
_IOU_50, _IOU_75 = 0, 5


@dataclass(frozen=True)
class Detections:
    """The detections of a model in a data set.

    Attributes:
        image_ids_N: (N,) integers or strings; equal scores of different images are sorted by them.
        category_ids_N: (N,) integers or strings. Categories that the ground truth lacks do not count.
        boxes_N4: (N, 4) xyxy in pixels of the original image.
        scores_N: (N,), finite; 1.0 for models that give none.
    """

    image_ids_N: IdArray
    category_ids_N: IdArray
    boxes_N4: FloatArray
    scores_N: FloatArray

    def __post_init__(self) -> None:
        _check_lengths(self.image_ids_N, self.category_ids_N, self.boxes_N4, self.scores_N)
        if not (np.isfinite(self.scores_N).all() and np.isfinite(self.boxes_N4).all()):
            raise ValueError("a detection has a score or a coordinate that is not finite")

    def take(self, index: IntArray | BoolArray) -> Detections:
        """Return some of the detections, in the order of `index`."""
        return Detections(
            self.image_ids_N[index], self.category_ids_N[index], self.boxes_N4[index], self.scores_N[index]
        )


@dataclass(frozen=True)
class GroundTruth:
    """The gold objects of a data set. Images without objects need not be listed.

    Attributes:
        image_ids_N, category_ids_N: (N,), of the same kind as those of the detections.
        boxes_N4: (N, 4) xyxy in pixels of the original image.
        areas_N: (N,) square pixels, which decide whether an object is small, medium or large: the annotation's own
            `area`, in COCO that of the outline; None: the areas of the boxes.
        crowd_N: (N,) True for annotations with `iscrowd`, groups of objects without boxes of their own; None: none.
    """

    image_ids_N: IdArray
    category_ids_N: IdArray
    boxes_N4: FloatArray
    areas_N: FloatArray | None = None
    crowd_N: BoolArray | None = None

    def __post_init__(self) -> None:
        optional = [column for column in (self.areas_N, self.crowd_N) if column is not None]
        _check_lengths(self.image_ids_N, self.category_ids_N, self.boxes_N4, *optional)
        if not np.isfinite(self.boxes_N4).all():
            raise ValueError("a gold box has a coordinate that is not finite")


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
        ap=_mean(precision_TRKA[..., _ALL]),
        ap_50=_mean(precision_TRKA[_IOU_50, ..., _ALL]),
        ap_75=_mean(precision_TRKA[_IOU_75, ..., _ALL]),
        ap_small=_mean(precision_TRKA[..., _SMALL]),
        ap_medium=_mean(precision_TRKA[..., _MEDIUM]),
        ap_large=_mean(precision_TRKA[..., _LARGE]),
        ar_1=_mean(curves.recall_TKAM[..., _ALL, 0]),
        ar_10=_mean(curves.recall_TKAM[..., _ALL, 1]),
        ar_100=_mean(recall_TKA[..., _ALL]),
        ar_small=_mean(recall_TKA[..., _SMALL]),
        ar_medium=_mean(recall_TKA[..., _MEDIUM]),
        ar_large=_mean(recall_TKA[..., _LARGE]),
    )


def average_precision_by_category(curves: CocoCurves) -> Mapping[int | str, float]:
    """Return the AP of each category over all IoU thresholds and areas; −1 for a category that has only crowds."""
    return {name: _mean(curves.precision_TRKA[:, :, k, _ALL]) for k, name in enumerate(curves.category_ids)}


def coco_curves(detections: Detections, truth: GroundTruth) -> CocoCurves:
    """Match all detections; returns precision and recall of every category, IoU threshold and area range."""
    categories_K = np.unique(truth.category_ids_N)
    seen, gold = _sorted_objects(detections, truth, categories_K)
    hit_ATN, skip_ATN = _match(seen, gold)
    K, (A, T, _) = len(categories_K), hit_ATN.shape
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
    return CocoCurves(tuple(categories_K.tolist()), precision_TRKA, recall_TKAM)


# ---- detections and gold boxes side by side ------------------------------------------------------------------------


class _Seen(NamedTuple):
    """Detections that count, sorted by category, image and rank."""

    group_N: IntArray  # category · I + image
    category_N: IntArray
    rank_N: IntArray  # 0, 1, … within its image and category, by falling score
    boxes_N4: FloatArray
    score_N: FloatArray
    outside_AN: BoolArray  # its area is not in the range


class _Gold(NamedTuple):
    """Gold boxes, sorted by category and image."""

    group_N: IntArray
    category_N: IntArray
    boxes_N4: FloatArray
    crowd_N: BoolArray
    ignored_AN: BoolArray  # a crowd, or its area is not in the range


def _sorted_objects(detections: Detections, truth: GroundTruth, categories_K: IdArray) -> tuple[_Seen, _Gold]:
    _check_kinds(detections.category_ids_N, truth.category_ids_N)
    _check_kinds(detections.image_ids_N, truth.image_ids_N)
    known_N = np.isin(detections.category_ids_N, categories_K)
    images_I = np.unique(np.concatenate([truth.image_ids_N, detections.image_ids_N]))

    def category_and_group(category_ids_N: IdArray, image_ids_N: IdArray) -> tuple[IntArray, IntArray]:
        category_N = np.searchsorted(categories_K, category_ids_N)
        return category_N, category_N * len(images_I) + np.searchsorted(images_I, image_ids_N)

    category_N, group_N = category_and_group(truth.category_ids_N, truth.image_ids_N)
    areas_N = box_areas(truth.boxes_N4) if truth.areas_N is None else truth.areas_N
    crowd_N = np.zeros(len(group_N), dtype=np.bool_) if truth.crowd_N is None else truth.crowd_N
    order = np.argsort(group_N, kind="stable")
    ignored_AN = (_outside(areas_N) | crowd_N)[:, order]
    gold = _Gold(group_N[order], category_N[order], truth.boxes_N4[order], crowd_N[order], ignored_AN)

    found = detections.take(known_N)
    category_N, group_N = category_and_group(found.category_ids_N, found.image_ids_N)
    order = np.lexsort((-found.scores_N, group_N))  # stable: equal scores as given
    rank_N = np.arange(len(order)) - np.searchsorted(group_N[order], group_N[order])
    order, rank_N = order[rank_N < MAX_DETECTIONS[-1]], rank_N[rank_N < MAX_DETECTIONS[-1]]
    boxes_N4 = found.boxes_N4[order]
    outside_AN = _outside(box_areas(boxes_N4))
    return _Seen(group_N[order], category_N[order], rank_N, boxes_N4, found.scores_N[order], outside_AN), gold


def _outside(areas_N: FloatArray) -> BoolArray:
    """Return which areas are outside of each range, (A, N)."""
    least_A1, most_A1 = np.array(AREA_RANGES_PX2).T[:, :, None]
    return (areas_N < least_A1) | (areas_N > most_A1)


# ---- matching ------------------------------------------------------------------------------------------------------


class _Pairs(NamedTuple):
    """Detections and gold boxes of the same image and category that overlap enough for the least threshold.

    They are sorted by the detection's rank, detection, IoU and gold box; so the last pair of a detection is its best.
    """

    rank_P: IntArray
    detection_P: IntArray
    gold_P: IntArray
    iou_P: FloatArray


def _match(seen: _Seen, gold: _Gold) -> tuple[BoolArray, BoolArray]:
    """Return the detections that are right, and those that are neither right nor wrong; bool (A, T, N) each."""
    pairs = _close_pairs(seen, gold)
    P, A, T = len(pairs.rank_P), len(AREA_RANGES_PX2), len(_THRESHOLDS_T)
    hit_ATN = np.zeros((A, T, len(seen.rank_N)), dtype=np.bool_)
    taken_ATN = np.zeros_like(hit_ATN)  # detections that have taken a gold box
    free_ATN = np.ones((A, T, len(gold.group_N)), dtype=np.bool_)
    reached_TP = pairs.iou_P >= _THRESHOLDS_T[:, None]
    # how a detection prefers its pairs: first those whose gold boxes count, then by place
    place_AP = np.arange(1, P + 1) + np.where(gold.ignored_AN[:, pairs.gold_P], 0, P)
    for start, end in pairwise(np.searchsorted(pairs.rank_P, np.arange(MAX_DETECTIONS[-1] + 1)).tolist()):
        if start == end:
            continue
        # at most one detection of every image and category, so no two want the same gold box
        detection_P, gold_P = pairs.detection_P[start:end], pairs.gold_P[start:end]
        firsts = np.flatnonzero(np.diff(detection_P, prepend=-1))
        possible_ATP = free_ATN[:, :, gold_P] & reached_TP[:, start:end]
        preference_ATP = np.where(possible_ATP, place_AP[:, None, start:end], 0)
        best_ATN = np.maximum.reduceat(preference_ATP, firsts, axis=2)
        a, t, n = np.nonzero(best_ATN)
        best = best_ATN[a, t, n]
        pair, detection = (best - 1) % P, detection_P[firsts][n]
        hit_ATN[a, t, detection] = best > P
        taken_ATN[a, t, detection] = True
        free_ATN[a, t, pairs.gold_P[pair]] = gold.crowd_N[pairs.gold_P[pair]]
    return hit_ATN, np.where(taken_ATN, ~hit_ATN, seen.outside_AN[:, None])


def _close_pairs(seen: _Seen, gold: _Gold) -> _Pairs:
    first_N = np.searchsorted(gold.group_N, seen.group_N, side="left")
    count_N = np.searchsorted(gold.group_N, seen.group_N, side="right") - first_N
    detection_P = np.repeat(np.arange(len(count_N)), count_N)
    within_P = np.arange(len(detection_P)) - np.repeat(np.cumsum(count_N) - count_N, count_N)
    gold_P = np.repeat(first_N, count_N) + within_P
    iou_P = paired_iou(seen.boxes_N4[detection_P], gold.boxes_N4[gold_P], gold.crowd_N[gold_P])
    close = np.flatnonzero(iou_P >= _THRESHOLDS_T[0])
    rank_P = seen.rank_N[detection_P]
    order = close[np.lexsort((gold_P[close], iou_P[close], detection_P[close], rank_P[close]))]
    return _Pairs(rank_P[order], detection_P[order], gold_P[order], iou_P[order])


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


def _check_lengths(*columns: npt.NDArray[Any]) -> None:
    shapes = [column.shape for column in columns]
    N = len(columns[0])
    if shapes != [(N, 4) if i == 2 else (N,) for i in range(len(columns))]:
        raise ValueError(f"columns of shapes {shapes}; wanted (N,), with (N, 4) for the boxes")


def _check_kinds(ids_N: IdArray, gold_ids_N: IdArray) -> None:
    kinds = {ids.dtype.kind == "U" for ids in (ids_N, gold_ids_N) if len(ids)}
    if len(kinds) > 1:
        raise ValueError(f"ids of two kinds, {ids_N.dtype} and {gold_ids_N.dtype}, are never equal")
