"""Rewards of answers that are sets of boxes: with labels, or without, which then count as all of one label.

Labels are equal if they have one normal form (`parsing.normal_form.normalize_label`); case counts.

In all of them, unless said otherwise: nothing found where nothing is is right, 1; exactly one side empty is wrong, 0;
and an answer that could not be read is worth the least, also where nothing was to be found.
"""

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
    """What was found, in the order written, and what is there."""

    boxes: list[Box]
    labels: list[str]
    gold_boxes: list[Box]
    gold_labels: list[str]


def map_reward(given: RewardInput[Objects]) -> float:
    """COCO's mAP@[.5:.95] of this image, every box counting as equally sure.

    r = mAP(value, gold), in [0, 1]. Boxes with labels that the gold lacks cost nothing, and surplus boxes after the
    right ones cost nothing: models learn to list everything. Use `odlength`. Source: VLM-R1, arXiv 2504.07615, 5.3.1.

    Raises:
        DataError: the record's gold answer is no set of boxes.
    """
    return _map(_sides(given, "map"), COCO_IOU_THRESHOLDS)


def ap50_reward(given: RewardInput[Objects]) -> float:
    """As `map_reward`, at IoU 0.5 alone, where a rough box is as good as an exact one.

    Raises:
        DataError: the record's gold answer is no set of boxes.
    """
    return _map(_sides(given, "ap50"), COCO_IOU_THRESHOLDS[:1])


def odlength_reward(given: RewardInput[Objects]) -> float:
    """mAP, scaled down for every box beyond the number of gold boxes: the reward that does not pay for guessing.

    r = min(1, L_gt / L_pred) · mAP(value, gold), in [0, 1], where L counts boxes of all labels; the factor is 1 where
    nothing was found. Source: VLM-R1, arXiv 2504.07615, eq. 7–8 (odLength).

    Raises:
        DataError: the record's gold answer is no set of boxes.
    """
    mean_precision = _map(_sides(given, "odlength"), COCO_IOU_THRESHOLDS)
    return mean_precision * min(1.0, len(given.gold) / len(given.value)) if given.value else mean_precision


def nms_ap_reward(given: RewardInput[Objects]) -> float:
    """mAP of what OVDEval's rule leaves: of all boxes on one gold box, whatever their labels, the last written.

    r = mAP(kept, gold), in [0, 1], see `geometry.nms`. Several labels for one object are no longer free; boxes that
    lie on no gold box still are: put `count_penalty` beside it. Source: Yao et al. 2023, arXiv 2308.13177.

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
    """Harmonic mean of precision and recall, boxes paired so that as many as possible find one of their label.

    r = 2 · pairs / (L_pred + L_gt), in [0, 1], see `geometry.matching.set_f1`. Every box that is not right costs, and
    the order of the boxes means nothing.

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
    """Where, what and how many, as a weighted mean; boxes are paired greedily, the greatest IoU first.

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
    """What is taken off for boxes too many or too few; put it beside a reward that says whether they are right.

    r = −|L_pred − L_gt| / max(L_pred, L_gt), in [−1, 0]: 0 for the right number (none where nothing is, too), −1/2 for
    twice or half as many, −1 for exactly one side empty or an answer that could not be read.

    Raises:
        DataError: the record's gold answer is no set of boxes.
    """
    sides = _sides(given, "count_penalty")
    if sides is None:
        return -1.0
    n_found, n_gold = len(sides.boxes), len(sides.gold_boxes)
    return min(n_found, n_gold) / max(n_found, n_gold) - 1 if n_found or n_gold else 0.0


def _greedy_pairs(sides: _Sides, at: float) -> list[tuple[float, bool]]:
    """(IoU, whether the labels are equal) of each pair of an answered box and a gold box."""
    boxes, labels, gold_boxes, gold_labels = sides
    close = [
        (overlap, labels[n] == gold_labels[m], -n, -m)
        for n, box in enumerate(boxes)
        for m, gold in enumerate(gold_boxes)
        if (overlap := iou(box, gold)) >= at
    ]
    close.sort(reverse=True)  # hence the minus: of equal ones the first written comes first
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
    """Both sets taken apart; None if the answer could not be read."""
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
