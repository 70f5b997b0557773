"""COCO's average precision of one image, with the steps of pycocotools, for any boxes: swapped corners, NaN.

`geometry.average_precision` gives the same for finite boxes with corners in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_MAX_DETECTIONS = 100  # detections of each label that count
_MAX_AREA = 1e10  # boxes with an area outside [0, this] are ignored
_RECALLS_R = np.linspace(0.0, 1.0, 101)


class _Sized(NamedTuple):
    """A box in COCO's form, x, y, width and height, and whether it is ignored."""

    x: float
    y: float
    width: float
    height: float
    ignored: bool


def average_precision(
    boxes: Sequence[Sequence[float]],
    labels: Sequence[str],
    gold_boxes: Sequence[Sequence[float]],
    gold_labels: Sequence[str],
    iou_thresholds: Sequence[float],
) -> float:
    """AP, averaged over thresholds and gold labels; 0 without any box, −1 if all gold boxes are ignored.

    Args:
        boxes, labels: predicted boxes, all with score 1, and their labels, which are among the gold ones.
        gold_boxes, gold_labels: gold boxes and their labels.
        iou_thresholds: least IoU of a match.
    """
    if not boxes:
        return 0.0
    precisions: list[float] = []
    for label in dict.fromkeys(gold_labels):
        found = [_sized(box) for box, own in zip(boxes, labels, strict=True) if own == label][:_MAX_DETECTIONS]
        gold = [_sized(box) for box, own in zip(gold_boxes, gold_labels, strict=True) if own == label]
        gold.sort(key=lambda box: box.ignored)
        n_gold = sum(not box.ignored for box in gold)
        if n_gold:
            overlaps_NM = [[_iou(box, other) for other in gold] for box in found]
            precisions += [_precision(_hits(found, gold, overlaps_NM, t), n_gold) for t in iou_thresholds]
    return sum(precisions) / len(precisions) if precisions else -1.0


def _hits(
    found: Sequence[_Sized], gold: Sequence[_Sized], overlaps_NM: Sequence[Sequence[float]], threshold: float
) -> list[bool]:
    """Match the predicted boxes that count; returns for each whether it is right."""
    taken: set[int] = set()
    hits: list[bool] = []
    for box, overlaps_M in zip(found, overlaps_NM, strict=True):
        match = _match(overlaps_M, gold, taken, threshold)
        if match is None:
            hits += [] if box.ignored else [False]
        else:
            taken.add(match)
            hits += [] if gold[match].ignored else [True]
    return hits


def _match(overlaps_M: Sequence[float], gold: Sequence[_Sized], taken: set[int], threshold: float) -> int | None:
    """The free gold box with the greatest overlap, the last of equals; NaN is not less than any overlap, so it fits."""
    best, match = min(threshold, 1 - 1e-10), None
    for m, overlap in enumerate(overlaps_M):
        if m in taken or overlap < best:
            continue
        if match is not None and gold[m].ignored and not gold[match].ignored:
            break
        best, match = overlap, m
    return match


def _precision(hits: Sequence[bool], n_gold: int) -> float:
    """Mean over 101 recalls of the best precision at that recall or beyond."""
    right_N = np.cumsum(hits, dtype=float)
    precision_N = right_N / (np.arange(1, len(hits) + 1) + np.spacing(1.0))
    best_N = np.maximum.accumulate(precision_N[::-1])[::-1]
    at_R = np.searchsorted(right_N / n_gold, _RECALLS_R)
    return float(np.append(best_N, 0.0)[at_R].mean())


def _sized(box: Sequence[float]) -> _Sized:
    x1, y1, x2, y2 = map(float, box)
    area = (x2 - x1) * (y2 - y1)
    return _Sized(x1, y1, x2 - x1, y2 - y1, ignored=area < 0 or area > _MAX_AREA)


def _iou(a: _Sized, b: _Sized) -> float:
    """COCO's own formula; a NaN side takes the value of the other box."""
    width = np.fmin(a.x + a.width, b.x + b.width) - np.fmax(a.x, b.x)
    height = np.fmin(a.y + a.height, b.y + b.height) - np.fmax(a.y, b.y)
    if width <= 0 or height <= 0:
        return 0.0
    shared = float(width * height)
    return shared / (a.width * a.height + b.width * b.height - shared)
