"""Rewards of answers that are one box.

All are in [0, 1]. Only the gold box itself earns 1 (except with `iou_threshold`), and an answer that is no box earns 0.
Both boxes are in original pixels. An answer is not clipped to its image, so area outside costs like any other wrong
area.
"""

from __future__ import annotations

import math

from vlm_r1.geometry.boxes import ciou, diou, giou, iou
from vlm_r1.rewards.base import RewardInput, unsuitable, wrong_option
from vlm_r1.types import Box


def iou_reward(given: RewardInput[Box]) -> float:
    """Continuous IoU of the answered box with the gold box.

    r = IoU(value, gold). Source: VLM-R1, arXiv 2504.07615, eq. 6.

    Raises:
        DataError: the record's gold answer is not a box, or its task asks for something else.
    """
    _check_boxes(given, "iou")
    return 0.0 if given.value is None else iou(given.value, given.gold)


def iou_threshold_reward(given: RewardInput[Box], *, at: float = 0.5) -> float:
    """1 if the IoU is above a threshold, else 0; accuracy at IoU 0.5 measures the same.

    r = 1 if IoU(value, gold) > at, strictly, as in that metric and in the original (COCO's AP uses ≥).

    Args:
        at: threshold in [0, 1); 0 accepts any overlap.

    Raises:
        DataError: as `iou_reward`.
        ConfigError: `at` is out of range.
    """
    if not 0 <= at < 1:
        raise wrong_option("iou_threshold", "at", at, "0 ≤ at < 1")
    _check_boxes(given, "iou_threshold")
    return float(given.value is not None and iou(given.value, given.gold) > at)


def iou_power_reward(given: RewardInput[Box], *, exponent: float = 2.0) -> float:
    """IoU to a power. An exponent above 1 favours exact boxes over rough ones; an exponent below 1 does the opposite.

    r = IoU(value, gold)^exponent.

    Args:
        exponent: positive; 1 is `iou`.

    Raises:
        DataError: as `iou_reward`.
        ConfigError: `exponent` is out of range.
    """
    if not 0 < exponent < math.inf:
        raise wrong_option("iou_power", "exponent", exponent, "exponent > 0")
    _check_boxes(given, "iou_power")
    return 0.0 if given.value is None else iou(given.value, given.gold) ** exponent


def giou_reward(given: RewardInput[Box], *, near: float = 0.1) -> float:
    """Generalised IoU, which distinguishes near misses from far ones.

    r = near + (1 − near) · g if g ≥ 0, else near · (1 + max(g, −1)), where g is the GIoU.

    Args:
        near: in [0, 1], what is paid for getting near.

    Raises:
        DataError: as `iou_reward`.
        ConfigError: `near` is out of range.
    """
    _check_boxes(given, "giou", near)
    return 0.0 if given.value is None else _graded(giou(given.value, given.gold), near)


def diou_reward(given: RewardInput[Box], *, near: float = 0.1) -> float:
    """Distance IoU: like giou, but the distance of the centres counts.

    r = near + (1 − near) · g if g ≥ 0, else near · (1 + max(g, −1)), where g is the DIoU.

    Args:
        near: in [0, 1], what is paid for getting near.

    Raises:
        DataError: as `iou_reward`.
        ConfigError: `near` is out of range.
    """
    _check_boxes(given, "diou", near)
    return 0.0 if given.value is None else _graded(diou(given.value, given.gold), near)


def ciou_reward(given: RewardInput[Box], *, near: float = 0.1) -> float:
    """Complete IoU: like diou, but a wrong ratio of width to height also costs.

    r = near + (1 − near) · g if g ≥ 0, else near · (1 + max(g, −1)), where g is the CIoU.

    Args:
        near: in [0, 1], what is paid for getting near.

    Raises:
        DataError: as `iou_reward`.
        ConfigError: `near` is out of range.
    """
    _check_boxes(given, "ciou", near)
    return 0.0 if given.value is None else _graded(ciou(given.value, given.gold), near)


def _graded(g: float, near: float) -> float:
    """Map a measure that is negative for most misses to the scale of a reward.

    r = near + (1 − near) · g if g ≥ 0, else near · (1 + max(g, −1)). In [0, 1], continuous, rising with g.

    The usual (1 + g) / 2 is `near` = 0.5. It pays about 0.5 for a box around the whole image or next to the object, so
    half marks for no answer. max(0, g) is `near` = 0. It pays nothing for getting nearer, so plain IoU would do. Values
    in between pay less than `near` for a miss, which is enough to order a group in which all miss.
    """
    return near + (1 - near) * g if g >= 0 else near * (1 + max(g, -1.0))


def _check_boxes(given: RewardInput[Box], name: str, near: float = 0.0) -> None:
    if not 0 <= near <= 1:
        raise wrong_option(name, "near", near, "0 ≤ near ≤ 1")
    gold, value = given.gold, given.value
    if not (isinstance(gold, tuple) and [type(number) for number in gold] == [float] * 4):
        raise unsuitable(given, name, "boxes")
    if value is not None and len(value) != 4:  # a point, where the gold box is the region to hit
        raise unsuitable(given, name, "boxes with boxes, and asked for is something else")
