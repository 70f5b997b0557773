"""COCO's average precision of one image, for detections without scores.

A language model lists boxes without a confidence. So every prediction has score 1.0 and keeps its place in the list,
since COCO sorts stably. Matching is COCO's: in order, each prediction takes the free gold box of its label that it
overlaps most, if the IoU reaches the threshold. COCO leaves empty sets undefined. Here the value is 1 if both sides are
empty, and 0 if exactly one is.

Few pairs reach the least threshold, and only these are kept. Two thresholds have the same matching if no IoU of such a
pair lies between them, and above the greatest IoU nothing matches.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from vlm_r1.geometry.candidates import Candidates, candidates_by_label
from vlm_r1.types import Box

COCO_IOU_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""0.50, 0.55, …, 0.95, equal to COCO's to the last bit, so that an IoU of exactly 0.8 is on the same side."""

_RECALLS_R = np.linspace(0.0, 1.0, 101).tolist()
_MAX_DETECTIONS = 100  # detections of each label that count; later ones are ignored, as in COCO


def mean_average_precision(
    pred_boxes: Sequence[Box],
    pred_labels: Sequence[str],
    gold_boxes: Sequence[Box],
    gold_labels: Sequence[str],
    iou_thresholds: Sequence[float] = COCO_IOU_THRESHOLDS,
) -> float:
    """Mean of average precision over IoU thresholds and over the labels of the gold boxes.

    AP of one label at one threshold = 1/101 · Σ_{r = 0, 0.01, …, 1} max {precision(n) : recall(n) ≥ r}, for the first n
    predictions. Labels that only the prediction has do not count. Since they cost nothing, this number alone is a poor
    reward.

    Args:
        pred_boxes, pred_labels: predicted boxes and labels, in the order written.
        gold_boxes, gold_labels: gold boxes in the same coordinates, and their labels; equal labels match.
        iou_thresholds: least IoU of a match.

    Returns:
        A value in [0, 1]; 1 if both sides are empty, 0 if one is.

    Source: cocoapi, `COCOeval` (area "all", `maxDets` 100), to 1e-9 or so.

    >>> box, other = (0, 0, 10, 10), (20, 20, 30, 30)
    >>> mean_average_precision([other, box], ["cat", "cat"], [box], ["cat"])  # right at the second attempt
    0.5
    >>> mean_average_precision([other, box], ["dog", "cat"], [box], ["cat"])
    1.0
    """
    precisions_T = average_precisions(pred_boxes, pred_labels, gold_boxes, gold_labels, iou_thresholds)
    return sum(precisions_T) / len(precisions_T)


def average_precisions(
    pred_boxes: Sequence[Box],
    pred_labels: Sequence[str],
    gold_boxes: Sequence[Box],
    gold_labels: Sequence[str],
    iou_thresholds: Sequence[float] = COCO_IOU_THRESHOLDS,
) -> tuple[float, ...]:
    """The terms of `mean_average_precision`: average precision at each IoU threshold, from the least to the greatest.

    >>> box, rough = (0, 0, 10, 10), (0, 0, 10, 6.2)  # IoU 0.62
    >>> average_precisions([rough], ["cat"], [box], ["cat"], (0.5, 0.6, 0.7))
    (1.0, 1.0, 0.0)
    """
    sides = (tuple(pred_boxes), tuple(pred_labels), tuple(gold_boxes), tuple(gold_labels))
    return _average_precisions(*sides, tuple(sorted(iou_thresholds)))


@lru_cache(maxsize=4)  # the reward and the metrics of one completion use the same boxes
def _average_precisions(
    pred_boxes: tuple[Box, ...],
    pred_labels: tuple[str, ...],
    gold_boxes: tuple[Box, ...],
    gold_labels: tuple[str, ...],
    thresholds_T: tuple[float, ...],
) -> tuple[float, ...]:
    if not gold_labels:
        return (float(not pred_labels),) * len(thresholds_T)
    totals_T = [0.0] * len(thresholds_T)
    for own in candidates_by_label(pred_boxes, pred_labels, gold_boxes, gold_labels, thresholds_T[0]):
        seen_N = own.candidates_N[:_MAX_DETECTIONS]
        done = 0
        for overlap in sorted([overlap for candidates in seen_N for overlap, _ in candidates]):
            reached = bisect_right(thresholds_T, overlap)
            if reached > done:  # these thresholds lie between this IoU and the previous one
                precision = _average_precision(_hits(seen_N, thresholds_T[done]), own.n_gold)
                totals_T[done:reached] = [total + precision for total in totals_T[done:reached]]
                done = reached
    n_labels = len(set(gold_labels))
    return tuple([total / n_labels for total in totals_T])


def precision_recall(
    pred_boxes: Sequence[Box],
    pred_labels: Sequence[str],
    gold_boxes: Sequence[Box],
    gold_labels: Sequence[str],
    iou_threshold: float = 0.5,
) -> tuple[float, float]:
    """Share of the predictions that match, and share of the gold boxes that are matched, all labels together.

    Returns:
        (precision, recall), each in [0, 1]; both 1 if both sides are empty, both 0 if one is.

    >>> box, other = (0, 0, 10, 10), (20, 20, 30, 30)
    >>> precision_recall([box, other], ["cat", "dog"], [box], ["cat"])
    (0.5, 1.0)
    """
    if not pred_labels or not gold_labels:
        return (1.0, 1.0) if not pred_labels and not gold_labels else (0.0, 0.0)
    sides = (tuple(pred_boxes), tuple(pred_labels), tuple(gold_boxes), tuple(gold_labels))
    hits = [_hits(own.candidates_N, iou_threshold) for own in candidates_by_label(*sides, iou_threshold)]
    return sum(map(len, hits)) / len(pred_labels), sum(map(len, hits)) / len(gold_labels)


def _hits(candidates_N: Sequence[Candidates], threshold: float) -> tuple[int, ...]:
    """Ranks, from 1, of the predictions that get a gold box; each in turn takes the best one that is still free."""
    taken: set[int] = set()
    ranks: list[int] = []
    for rank, candidates in enumerate(candidates_N, start=1):
        for overlap, m in candidates:
            if overlap >= threshold and m not in taken:
                taken.add(m)
                ranks.append(rank)
                break
    return tuple(ranks)


@lru_cache(maxsize=4096)  # few boxes have few possible outcomes
def _average_precision(hits: tuple[int, ...], n_gold: int) -> float:
    """Mean over 101 recalls of the best precision at that recall or beyond; it is 0 if the recall is never reached.

    >>> _average_precision((1, 3), 3) == (34 * 1 + 33 * 2 / 3) / 101  # 34 recalls up to 1/3, 33 more up to 2/3
    True
    """
    reached = [0, *(bisect_right(_RECALLS_R, k / n_gold) for k in range(1, len(hits) + 1))]
    best = total = 0.0
    for k in range(len(hits), 0, -1):
        best = max(best, k / hits[k - 1])
        total += best * (reached[k] - reached[k - 1])
    return total / len(_RECALLS_R)
