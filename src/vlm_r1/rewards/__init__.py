"""Reward functions: what an answer is worth. One file per kind of answer, one line per name in `REWARDS`."""

from __future__ import annotations

from collections.abc import Mapping

from vlm_r1.rewards.base import RewardFunction, RewardInput
from vlm_r1.rewards.boxes import iou_reward
from vlm_r1.rewards.combine import weighted_sum
from vlm_r1.rewards.format import format_reward
from vlm_r1.rewards.numbers import exact_number
from vlm_r1.rewards.text import exact_match

REWARDS: Mapping[str, RewardFunction] = {
    "iou": iou_reward,
    "format": format_reward,
    "exact_match": exact_match,
    "count": exact_number,
    # names of the original VLM-R1's accu_reward_method
    "all_match": exact_match,
    "numeric": exact_number,
}

__all__ = ["REWARDS", "RewardFunction", "RewardInput", "weighted_sum"]
