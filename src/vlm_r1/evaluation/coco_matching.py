"""COCO's matching of the detections of a whole data set with its gold boxes.

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

ALL, SMALL, MEDIUM, LARGE = range(len(AREA_RANGES_PX2))

MAX_DETECTIONS = (1, 10, 100)
"""How many detections with the best scores count in each image and category. Precision is that of 100."""

_THRESHOLDS_T = np.array(COCO_IOU_THRESHOLDS)


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


# ---- detections and gold boxes side by side ------------------------------------------------------------------------


class Seen(NamedTuple):
    """Detections that count, sorted by category, image and rank."""

    group_N: IntArray  # category · I + image
    category_N: IntArray
    image_N: IntArray
    rank_N: IntArray  # 0, 1, … within its image and category, by falling score
    boxes_N4: FloatArray
    score_N: FloatArray
    outside_AN: BoolArray  # its area is not in the range


class Gold(NamedTuple):
    """Gold boxes, sorted by category and image."""

    group_N: IntArray
    category_N: IntArray
    image_N: IntArray
    boxes_N4: FloatArray
    crowd_N: BoolArray
    ignored_AN: BoolArray  # a crowd, or its area is not in the range


class Matches(NamedTuple):
    """The detections that count, and what each has become.

    Attributes:
        categories_K: the categories of the ground truth, sorted; `category_N` is an index into them.
        images_I: all images with an object on either side, sorted; `image_N` is an index into them.
        seen, gold: both sides.
        hit_ATN: bool, detections that are right, in each area range and at each IoU threshold 0.50, 0.55, …, 0.95.
        skip_ATN: bool, detections that are neither right nor wrong.
    """

    categories_K: IdArray
    images_I: IdArray
    seen: Seen
    gold: Gold
    hit_ATN: BoolArray
    skip_ATN: BoolArray


def match(detections: Detections, truth: GroundTruth) -> Matches:
    """Match all detections of a data set with its gold boxes.

    >>> boxes = np.array([(0, 0, 50, 50), (0, 0, 50, 30)], dtype=float)  # IoU 0.6
    >>> truth = GroundTruth(np.array([1]), np.array([7]), boxes[:1])
    >>> match(Detections(np.array([1]), np.array([7]), boxes[1:], np.array([0.9])), truth).hit_ATN[ALL, :, 0].sum()
    np.int64(3)
    """
    _check_kinds(detections.category_ids_N, truth.category_ids_N)
    _check_kinds(detections.image_ids_N, truth.image_ids_N)
    categories_K = np.unique(truth.category_ids_N)
    images_I = np.unique(np.concatenate([truth.image_ids_N, detections.image_ids_N]))
    gold = _sorted_gold(truth, categories_K, images_I)
    known = detections.take(np.isin(detections.category_ids_N, categories_K))
    seen = _sorted_detections(known, categories_K, images_I)
    return Matches(categories_K, images_I, seen, gold, *_match(seen, gold))


def _sorted_gold(truth: GroundTruth, categories_K: IdArray, images_I: IdArray) -> Gold:
    category_N, image_N = (
        np.searchsorted(categories_K, truth.category_ids_N),
        np.searchsorted(images_I, truth.image_ids_N),
    )
    group_N = category_N * len(images_I) + image_N
    areas_N = box_areas(truth.boxes_N4) if truth.areas_N is None else truth.areas_N
    crowd_N = np.zeros(len(group_N), dtype=np.bool_) if truth.crowd_N is None else truth.crowd_N
    order = np.argsort(group_N, kind="stable")
    ignored_AN = (_outside(areas_N) | crowd_N)[:, order]
    boxes_N4 = truth.boxes_N4[order]
    return Gold(group_N[order], category_N[order], image_N[order], boxes_N4, crowd_N[order], ignored_AN)


def _sorted_detections(found: Detections, categories_K: IdArray, images_I: IdArray) -> Seen:
    category_N, image_N = (
        np.searchsorted(categories_K, found.category_ids_N),
        np.searchsorted(images_I, found.image_ids_N),
    )
    group_N = category_N * len(images_I) + image_N
    order = np.lexsort((-found.scores_N, group_N))  # stable: equal scores as given
    rank_N = np.arange(len(order)) - np.searchsorted(group_N[order], group_N[order])
    order, rank_N = order[rank_N < MAX_DETECTIONS[-1]], rank_N[rank_N < MAX_DETECTIONS[-1]]
    outside_AN = _outside(box_areas(found.boxes_N4[order]))
    columns = (group_N[order], category_N[order], image_N[order], rank_N, found.boxes_N4[order], found.scores_N[order])
    return Seen(*columns, outside_AN)


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


def _match(seen: Seen, gold: Gold) -> tuple[BoolArray, BoolArray]:
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


def _close_pairs(seen: Seen, gold: Gold) -> _Pairs:
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


def _check_lengths(*columns: npt.NDArray[Any]) -> None:
    shapes = [column.shape for column in columns]
    N = len(columns[0])
    if shapes != [(N, 4) if i == 2 else (N,) for i in range(len(columns))]:
        raise ValueError(f"columns of shapes {shapes}; wanted (N,), with (N, 4) for the boxes")


def _check_kinds(ids_N: IdArray, gold_ids_N: IdArray) -> None:
    kinds = {ids.dtype.kind == "U" for ids in (ids_N, gold_ids_N) if len(ids)}
    if len(kinds) > 1:
        raise ValueError(f"ids of two kinds, {ids_N.dtype} and {gold_ids_N.dtype}, are never equal")
