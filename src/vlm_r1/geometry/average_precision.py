"""COCO's average precision of one image, for detections that carry no scores.

A language model lists boxes without saying how sure it is, so every prediction counts as score 1.0 and keeps its place
in the list: COCO sorts stably. Matching is COCO's: in order, each prediction takes the free gold box of its label that
it overlaps most, if the IoU reaches the threshold. Empty sets, which COCO leaves undefined, follow one rule everywhere
here: nothing predicted where nothing is is right, 1; exactly one side empty is wrong, 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from vlm_r1.geometry.boxes import FloatArray, box_iou
from vlm_r1.types import Box

BoolArray = npt.NDArray[np.bool_]

COCO_IOU_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
"""0.50, 0.55, …, 0.95, to the last bit as in COCO: an IoU of exactly 0.8 stands on the same side."""

_RECALLS_R = np.linspace(0.0, 1.0, 101)
_MAX_DETECTIONS = 100  # of each label; later ones are not looked at, as in COCO


def mean_average_precision(
    pred_boxes: Sequence[Box],
    pred_labels: Sequence[str],
    gold_boxes: Sequence[Box],
    gold_labels: Sequence[str],
    iou_thresholds: Sequence[float] = COCO_IOU_THRESHOLDS,
) -> float:
    """Average precision, averaged over IoU thresholds and over the labels of the gold boxes.

    AP of one label at one threshold = 1/101 · Σ_{r = 0, 0.01, …, 1} max {precision(n) : recall(n) ≥ r}, where the first
    n predictions are seen. Labels that only the prediction has do not enter: they cost nothing (which is why this
    number alone is a poor reward).

    Args:
        pred_boxes, pred_labels: what was found, in the order written.
        gold_boxes, gold_labels: what is there, boxes in the same coordinates; labels match if they are equal.
        iou_thresholds: least IoU of a match.

    Returns:
        In [0, 1]; 1 if both sides are empty, 0 if one is.

    Source: cocoapi, `COCOeval` (area "all", `maxDets` 100), to 1e-9 or so.

    >>> box, other = (0, 0, 10, 10), (20, 20, 30, 30)
    >>> mean_average_precision([other, box], ["cat", "cat"], [box], ["cat"])  # right at the second attempt
    0.5
    >>> mean_average_precision([other, box], ["dog", "cat"], [box], ["cat"])
    1.0
    """
    if not gold_labels:
        return float(not pred_labels)
    matches = _matches_by_label(pred_boxes, pred_labels, gold_boxes, gold_labels, iou_thresholds)
    return float(np.mean([_average_precision_T(matched_TN, n_gold) for matched_TN, n_gold in matches]))


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
    matches = _matches_by_label(pred_boxes, pred_labels, gold_boxes, gold_labels, [iou_threshold])
    hits = sum(int(matched_TN.sum()) for matched_TN, _ in matches)
    return hits / len(pred_labels), hits / len(gold_labels)


def _matches_by_label(
    pred_boxes: Sequence[Box],
    pred_labels: Sequence[str],
    gold_boxes: Sequence[Box],
    gold_labels: Sequence[str],
    iou_thresholds: Sequence[float],
) -> Iterator[tuple[BoolArray, int]]:
    """For each label of the gold boxes: (thresholds, predictions), true where one matches, and the number of golds."""
    for label in dict.fromkeys(gold_labels):
        pred = [box for box, own in zip(pred_boxes, pred_labels, strict=True) if own == label]
        gold = [box for box, own in zip(gold_boxes, gold_labels, strict=True) if own == label]
        yield _match_in_order(box_iou(pred, gold), np.asarray(iou_thresholds)), len(gold)


def _match_in_order(iou_NM: FloatArray, thresholds_T: FloatArray) -> BoolArray:
    """(T, N): whether a prediction takes a gold box, at each threshold; of equally good ones it takes the last."""
    n_pred, n_gold = iou_NM.shape
    free_TM = np.ones((len(thresholds_T), n_gold), dtype=np.bool_)
    matched_TN = np.zeros((len(thresholds_T), n_pred), dtype=np.bool_)
    for n, iou_M in enumerate(iou_NM):
        candidates_TM = np.where(free_TM & (iou_M >= thresholds_T[:, None]), iou_M, -1.0)
        best_T = n_gold - 1 - candidates_TM[:, ::-1].argmax(axis=1)
        matched_TN[:, n] = candidates_TM.max(axis=1) >= 0
        free_TM[matched_TN[:, n], best_T[matched_TN[:, n]]] = False
    return matched_TN


def _average_precision_T(matched_TN: BoolArray, n_gold: int) -> FloatArray:
    """Precision at 101 recalls, each the best at that recall or beyond, 0 where it is never reached; averaged."""
    hits_TN = np.cumsum(matched_TN[:, :_MAX_DETECTIONS], axis=1, dtype=np.float64)
    precision_TN = hits_TN / np.arange(1.0, hits_TN.shape[1] + 1)
    best_TN = np.maximum.accumulate(precision_TN[:, ::-1], axis=1)[:, ::-1]
    padded_TN = np.pad(best_TN, ((0, 0), (0, 1)))
    reached_TR = (hits_TN[:, :, None] / n_gold < _RECALLS_R).sum(axis=1)
    return np.take_along_axis(padded_TN, reached_TR, axis=1).mean(axis=1)
