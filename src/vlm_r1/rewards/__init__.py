"""Reward functions: what an answer is worth. One file per kind of answer, one line per name in `REWARDS`."""

from __future__ import annotations

from collections.abc import Mapping

from vlm_r1.rewards.base import RewardFunction, RewardInput
from vlm_r1.rewards.boxes import iou_reward
from vlm_r1.rewards.combine import COMBINATIONS
from vlm_r1.rewards.detection import ap50_reward, map_reward, odlength_reward
from vlm_r1.rewards.format import format_reward
from vlm_r1.rewards.math import math_reward
from vlm_r1.rewards.numbers import exact_number
from vlm_r1.rewards.text import exact_match

REWARDS: Mapping[str, RewardFunction] = {
    "iou": iou_reward,
    "map": map_reward,
    "ap50": ap50_reward,
    "odlength": odlength_reward,
    "format": format_reward,
    "exact_match": exact_match,
    "count": exact_number,
    "math": math_reward,
    # names of the original VLM-R1's accu_reward_method
    "all_match": exact_match,
    "numeric": exact_number,
    "od_ap": map_reward,
    "od_ap50": ap50_reward,
    "od_length": odlength_reward,
    "odLength": odlength_reward,
}

__all__ = ["COMBINATIONS", "REWARDS", "RewardFunction", "RewardInput"]
