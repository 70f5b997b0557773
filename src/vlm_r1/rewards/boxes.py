"""Rewards of answers that are one box.

All are in [0, 1], 1 only for the gold box itself (`iou_threshold` excepted), and 0 for an answer that is no box. Both
boxes are in original pixels; an answer is not clipped to its image, so what it claims outside costs like any other
wrong area.
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
        DataError: the record's gold answer is not a box, or what is asked for is not one.
    """
    _check_boxes(given, "iou")
    return 0.0 if given.value is None else iou(given.value, given.gold)


def iou_threshold_reward(given: RewardInput[Box], *, at: float = 0.5) -> float:
    """1 if the box is near enough, else 0: what accuracy at IoU 0.5 measures.

    r = 1 if IoU(value, gold) > at, strictly as in that metric and in the original; AP, by COCO's custom, takes ≥.

    Args:
        at: in [0, 1); 0 asks for any overlap.

    Raises:
        DataError: as `iou_reward`.
        ConfigError: `at` is out of range.
    """
    if not 0 <= at < 1:
        raise wrong_option("iou_threshold", "at", at, "0 ≤ at < 1")
    _check_boxes(given, "iou_threshold")
    return float(given.value is not None and iou(given.value, given.gold) > at)


def iou_power_reward(given: RewardInput[Box], *, exponent: float = 2.0) -> float:
    """IoU to a power: above 1, exact boxes are worth more and rough ones less; below 1, the other way round.

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
    """Generalised IoU, which tells boxes that miss by little from boxes that miss by much; see `_graded`.

    Args:
        near: in [0, 1], what is paid for getting near.

    Raises:
        DataError: as `iou_reward`.
        ConfigError: `near` is out of range.
    """
    _check_boxes(given, "giou", near)
    return 0.0 if given.value is None else _graded(giou(given.value, given.gold), near)


def diou_reward(given: RewardInput[Box], *, near: float = 0.1) -> float:
    """Distance IoU: as `giou_reward`, but what counts is how far the centres are apart; see `_graded`.

    Args:
        near: in [0, 1], what is paid for getting near.

    Raises:
        DataError: as `iou_reward`.
        ConfigError: `near` is out of range.
    """
    _check_boxes(given, "diou", near)
    return 0.0 if given.value is None else _graded(diou(given.value, given.gold), near)


def ciou_reward(given: RewardInput[Box], *, near: float = 0.1) -> float:
    """Complete IoU: as `diou_reward`, and a wrong ratio of width to height costs too; see `_graded`.

    Args:
        near: in [0, 1], what is paid for getting near.

    Raises:
        DataError: as `iou_reward`.
        ConfigError: `near` is out of range.
    """
    _check_boxes(given, "ciou", near)
    return 0.0 if given.value is None else _graded(ciou(given.value, given.gold), near)


def _graded(g: float, near: float) -> float:
    """Put a measure that is negative for most boxes that miss on the scale of a reward.

    r = near + (1 − near) · g if g ≥ 0, else near · (1 + max(g, −1)). In [0, 1], continuous, rising with g.

    The usual (1 + g) / 2, which is `near` = 0.5, pays 0.5 for a box round the whole image and much the same for one
    beside the object: half marks for no answer. max(0, g), which is `near` = 0, pays nothing for getting nearer, so
    plain IoU would do. Between the two, a miss earns less than `near`, enough to order a group in which all miss.
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
