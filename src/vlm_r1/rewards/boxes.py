"""Rewards of answers that are boxes."""

from __future__ import annotations

from vlm_r1.geometry.boxes import iou
from vlm_r1.rewards.base import RewardInput, unsuitable
from vlm_r1.types import Box


def iou_reward(given: RewardInput[Box]) -> float:
    """Continuous IoU of the answered box with the gold box, both in original pixels; 0 for an answer that is no box.

    r = IoU(value, gold), in [0, 1]. Source: VLM-R1, arXiv 2504.07615, eq. 6.

    Raises:
        DataError: the record's gold answer is not a box.
    """
    if not (isinstance(given.gold, tuple) and [type(number) for number in given.gold] == [float] * 4):
        raise unsuitable(given, "iou", "boxes")
    return 0.0 if given.value is None else iou(given.value, given.gold)
