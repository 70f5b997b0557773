"""Rewards of answers that are sets of boxes, with labels or without; boxes without labels all count as of one label.

Labels are equal if they have the same normal form (`parsing.normal_form.normalize_label`); case counts.

Unless stated otherwise, all follow three rules. An empty answer to an empty gold set earns 1. If exactly one side is
empty, the reward is 0. An unreadable answer earns the least possible, also if the gold set is empty.
"""

# pyright: standard

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from vlm_r1.geometry.average_precision import COCO_IOU_THRESHOLDS, mean_average_precision
from vlm_r1.geometry.boxes import iou
from vlm_r1.geometry.matching import set_f1
from vlm_r1.geometry.nms import nms_filter
from vlm_r1.parsing.labelled_boxes import LabelledBox
from vlm_r1.parsing.normal_form import normalize_label
from vlm_r1.rewards.base import RewardInput, unsuitable, wrong_option
from vlm_r1.types import Box

Objects = tuple[LabelledBox, ...] | tuple[Box, ...]


class _Sides(NamedTuple):
    """The boxes and labels of the answer, in the order written, and of the gold answer."""

    boxes: list[Box]
    labels: list[str]
    gold_boxes: list[Box]
    gold_labels: list[str]


def map_reward(given: RewardInput[Objects]) -> float:
    """COCO's mAP@[.5:.95] of this image, with equal confidence for every box.

    r = mAP(value, gold), in [0, 1]. Boxes with labels that the gold lacks cost nothing, nor do surplus boxes after the
    right ones. So models learn to list everything; use `odlength` instead. Source: VLM-R1, arXiv 2504.07615, 5.3.1.

    Raises:
        DataError: the record's gold answer is no set of boxes.
    """
    return _map(_sides(given, "map"), COCO_IOU_THRESHOLDS)


def ap50_reward(given: RewardInput[Objects]) -> float:
    """Like map, at IoU 0.5 alone, where a rough box is as good as an exact one.

    Raises:
        DataError: the record's gold answer is no set of boxes.
    """
    return _map(_sides(given, "ap50"), COCO_IOU_THRESHOLDS[:1])


def odlength_reward(given: RewardInput[Objects]) -> float:
    """mAP, scaled down for every box beyond the number of gold boxes, so that guessing does not pay.

    r = min(1, L_gt / L_pred) · mAP(value, gold), in [0, 1], where L counts boxes of all labels; the factor is 1 where
    nothing was found. Source: VLM-R1, arXiv 2504.07615, eq. 7–8 (odLength).

    Raises:
        DataError: the record's gold answer is no set of boxes.
    """
    mean_precision = _map(_sides(given, "odlength"), COCO_IOU_THRESHOLDS)
    return mean_precision * min(1.0, len(given.gold) / len(given.value)) if given.value else mean_precision


def nms_ap_reward(given: RewardInput[Objects]) -> float:
    """mAP after OVDEval's filter, which keeps only the last of all boxes on one gold box, whatever their labels.

    r = mAP(kept, gold), in [0, 1], see `geometry.nms`. Several labels for one object cost something here. Boxes on no
    gold box still cost nothing: combine it with `count_penalty`. Source: Yao et al. 2023, arXiv 2308.13177.

    Raises:
        DataError: the record's gold answer is no set of boxes.
    """
    sides = _sides(given, "nms_ap")
    if sides is None:
        return 0.0
    kept = nms_filter(sides.boxes, sides.gold_boxes)
    boxes, labels = [sides.boxes[n] for n in kept], [sides.labels[n] for n in kept]
    return _map(sides._replace(boxes=boxes, labels=labels), COCO_IOU_THRESHOLDS)


def set_f1_reward(given: RewardInput[Objects], *, at: float = 0.5) -> float:
    """Harmonic mean of precision and recall, for the pairing with the most pairs of boxes with equal labels.

    r = 2 · pairs / (L_pred + L_gt), in [0, 1], see `geometry.matching.set_f1`. Every wrong box costs, and the order
    of the boxes does not matter.

    Args:
        at: least IoU of a pair, in (0, 1].

    Raises:
        DataError: the record's gold answer is no set of boxes.
        ConfigError: `at` is out of range.
    """
    _check_threshold("set_f1", at)
    sides = _sides(given, "set_f1")
    return 0.0 if sides is None else set_f1(*sides, at)


def weighted_sum_reward(
    given: RewardInput[Objects],
    *,
    position: float = 0.7,
    label: float = 0.0,
    completeness: float = 0.3,
    at: float = 0.5,
) -> float:
    """Weighted mean of position, label and completeness; boxes are paired greedily, the greatest IoU first.

    r = (position · P + label · L + completeness · C) / (position + label + completeness), in [0, 1]. Pairs have
    IoU ≥ `at` whatever their labels; of equal IoUs the one with the right label comes first.
    P = Σ IoU of the pairs with the right label / L_gt; L = their number / L_gt; C = 1 − (share of gold boxes without a
    pair + share of answered boxes without one) / 2.

    Args:
        position, label, completeness: weights, not negative, not all 0.
        at: least IoU of a pair, in (0, 1].

    Source: `weighted_sum` of the original VLM-R1 (findings of 2025-03-24), which breaks ties by order alone.

    Raises:
        DataError: the record's gold answer is no set of boxes.
        ConfigError: `at` or a weight is out of range.
    """
    _check_threshold("weighted_sum", at)
    total = position + label + completeness
    if min(position, label, completeness) < 0 or not 0 < total < float("inf"):
        raise wrong_option("weighted_sum", "weights", (position, label, completeness), "none < 0, and one > 0")
    sides = _sides(given, "weighted_sum")
    if sides is None:
        return 0.0
    n_found, n_gold = len(sides.boxes), len(sides.gold_boxes)
    if not n_found or not n_gold:
        return float(n_found == n_gold)
    pairs = _greedy_pairs(sides, at)
    right = [overlap for overlap, same_label in pairs if same_label]
    complete = (len(pairs) / n_gold + len(pairs) / n_found) / 2
    return (position * sum(right) / n_gold + label * len(right) / n_gold + completeness * complete) / total


def count_penalty(given: RewardInput[Objects]) -> float:
    """Penalty for too many or too few boxes; combine it with a reward that checks whether they are right.

    r = −|L_pred − L_gt| / max(L_pred, L_gt), in [−1, 0]. It is 0 for the right number (also if both are 0), and −1/2
    for twice or half as many. It is −1 if exactly one side is empty or the answer could not be read.

    Raises:
        DataError: the record's gold answer is no set of boxes.
    """
    sides = _sides(given, "count_penalty")
    if sides is None:
        return -1.0
    n_found, n_gold = len(sides.boxes), len(sides.gold_boxes)
    return min(n_found, n_gold) / max(n_found, n_gold) - 1 if n_found or n_gold else 0.0


def _greedy_pairs(sides: _Sides, at: float) -> list[tuple[float, bool]]:
    """Pair answered and gold boxes; returns (IoU, whether the labels are equal) for each pair."""
    boxes, labels, gold_boxes, gold_labels = sides
    close = [
        (overlap, labels[n] == gold_labels[m], -n, -m)
        for n, box in enumerate(boxes)
        for m, gold in enumerate(gold_boxes)
        if (overlap := iou(box, gold)) >= at
    ]
    close.sort(reverse=True)  # the negative indices put the first written of equal ones first
    taken_n: set[int] = set()
    taken_m: set[int] = set()
    pairs: list[tuple[float, bool]] = []
    for overlap, same_label, n, m in close:
        if n not in taken_n and m not in taken_m:
            taken_n.add(n)
            taken_m.add(m)
            pairs.append((overlap, same_label))
    return pairs


def _map(sides: _Sides | None, iou_thresholds: Sequence[float]) -> float:
    return 0.0 if sides is None else mean_average_precision(*sides, iou_thresholds)


def _sides(given: RewardInput[Objects], name: str) -> _Sides | None:
    """Split both sets into boxes and labels; None if the answer could not be read."""
    if not (isinstance(given.gold, tuple) and all(map(_is_item, given.gold))):
        raise unsuitable(given, name, "sets of boxes")
    if given.value is None:
        return None
    return _Sides(*_boxes_and_labels(given.value), *_boxes_and_labels(given.gold))


def _is_item(item: Any) -> bool:
    return isinstance(item, LabelledBox) or (isinstance(item, tuple) and len(item) == 4)


def _boxes_and_labels(objects: Objects) -> tuple[list[Box], list[str]]:
    boxes = [item.box if isinstance(item, LabelledBox) else item for item in objects]
    labels = [normalize_label(item.label) if isinstance(item, LabelledBox) else "" for item in objects]
    return boxes, labels


def _check_threshold(name: str, at: float) -> None:
    if not 0 < at <= 1:
        raise wrong_option(name, "at", at, "0 < at ≤ 1")
