"""The original's rewards for sets of labelled boxes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from vlm_r1.geometry.average_precision import COCO_IOU_THRESHOLDS
from vlm_r1.official.boxes import pixel_iou
from vlm_r1.official.coco import average_precision
from vlm_r1.official.gold import Gold
from vlm_r1.official.texts import END_FENCE, FENCE, between, clean_text, in_tags

_NOTHING: list[Any] = []
_UNUSABLE = (LookupError, TypeError, AttributeError, ArithmeticError)  # errors of items of the wrong shape
_IOU_THRESHOLD = 0.5
_POSITION, _COMPLETENESS = 0.7, 0.3  # the weight of the labels is 0


def od_ap(completion: str, gold: Gold, *, threshold_50: bool, by_length: bool) -> float | None:
    """`od_ap`, `od_ap50`, `od_length`: COCO's average precision of the last fenced JSON of the last answer.

    An answer without a fence, or without JSON in it, is an empty list. Items without a box, or with a label that the
    gold lacks, are dropped.

    Args:
        completion: the text of the completion.
        gold: the gold answer, fenced JSON or None.
        threshold_50: whether to use IoU 0.5 alone instead of the mean over 0.50, 0.55, …, 0.95.
        by_length: whether to multiply by min(1, number of gold items / number of items), including dropped items.
    """
    answers, truth = in_tags(completion), in_tags(gold.text)[0].strip()
    if not answers:
        return 0.0
    answer = answers[-1].strip()
    if answer == truth == "None":
        return 1.0
    found, there = fenced_items(answer, -1) or _NOTHING, fenced_items(truth, -1)
    if there is None:
        return None
    if not (found and there):
        return float(not found and not there)
    try:
        gold_boxes, gold_labels = [item["bbox_2d"][:4] for item in there], [item["label"] for item in there]
        seen = [item for item in found if _is_labelled_box(item, gold_labels)]
        boxes = [[float(number) for number in item["bbox_2d"][:4]] for item in seen]
        thresholds = COCO_IOU_THRESHOLDS[:1] if threshold_50 else COCO_IOU_THRESHOLDS
        precision = average_precision(boxes, [item["label"] for item in seen], gold_boxes, gold_labels, thresholds)
    except _UNUSABLE:  # gold items of the wrong shape; numbers beyond floats
        return None
    return precision * min(1.0, len(there) / len(found)) if by_length else precision


def weighted_sum(completion: str, gold: Gold) -> float | None:
    """`weighted_sum`: 0.7 · position + 0.3 · completeness of the first fenced JSON of the last answer, or of the text.

    Boxes are paired by decreasing IoU down to 0.5, regardless of their labels. Position is the sum of the IoUs of pairs
    with equal labels, divided by the number of gold boxes. Completeness is 1 − (share of gold boxes without a partner +
    share of found boxes without one) / 2. All texts are in lower case.
    """
    answer, truth = clean_text(completion), clean_text(gold.text)
    if truth == "none":
        return float(answer == "none")
    found, there = fenced_items(answer, 0) or _NOTHING, fenced_items(truth, 0)
    if there is None:
        return None
    if not (found and there):
        return float(not found and not there)
    pairs = _greedy_pairs(found, there)
    label, position = None, 0.0
    for n, m, overlap in pairs:
        label = _label(found[n], label)  # a box without a label has the label of the previous pair
        if label is None:
            return None
        position += overlap * (label == _label(there[m], ""))
    misses, alarms = 1 - len(pairs) / len(there), 1 - len(pairs) / len(found)
    completeness = 1 - (misses + alarms) / 2
    return (_POSITION * position / len(there) + _COMPLETENESS * completeness) / (_POSITION + _COMPLETENESS)


def fenced_items(text: str, which: int) -> list[Any] | None:
    """Return the items (or keys) of the first (0) or last (−1) fenced JSON; empty without JSON; None if unreadable."""
    fenced = [inside.strip() for inside in between(text, FENCE, END_FENCE)]
    try:
        return list(json.loads(fenced[which])) if fenced and fenced[which] else []
    except (ValueError, TypeError, RecursionError):  # not JSON; a single number; nested too deep
        return None


def _is_labelled_box(item: Any, labels: Sequence[Any]) -> bool:
    try:
        x1, y1, x2, y2 = item["bbox_2d"][:4]
        return (x2 - x1, y2 - y1) is not None and item["label"] in labels
    except (*_UNUSABLE, ValueError):
        return False


def _greedy_pairs(found: Sequence[Any], there: Sequence[Any]) -> list[tuple[int, int, float]]:
    """Return (found, gold, IoU) by decreasing IoU, equal ones in the order written; each box occurs once."""
    overlaps = [(_overlap(a, b), n, m) for n, a in enumerate(found) for m, b in enumerate(there)]
    close = sorted((-overlap, n, m) for overlap, n, m in overlaps if overlap >= _IOU_THRESHOLD)
    pairs: dict[int, tuple[int, int, float]] = {}
    taken: set[int] = set()
    for negative, n, m in close:
        if n not in pairs and m not in taken:
            pairs[n] = (n, m, -negative)
            taken.add(m)
    return list(pairs.values())


def _overlap(a: Any, b: Any) -> float:
    try:
        return pixel_iou(a["bbox_2d"], b["bbox_2d"])
    except _UNUSABLE:
        return 0.0


def _label(item: Any, otherwise: str | None) -> str | None:
    try:
        return item["label"].lower()
    except _UNUSABLE:
        return otherwise
