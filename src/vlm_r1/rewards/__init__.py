"""Reward functions: they rate answers. There is one file per kind of answer, and one line per name in `REWARDS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vlm_r1.rewards.base import RewardFunction, RewardInput
from vlm_r1.rewards.boxes import (
    ciou_reward,
    diou_reward,
    giou_reward,
    iou_power_reward,
    iou_reward,
    iou_threshold_reward,
)
from vlm_r1.rewards.choices import choice, yes_no
from vlm_r1.rewards.combine import COMBINATIONS
from vlm_r1.rewards.detection import (
    ap50_reward,
    count_penalty,
    map_reward,
    nms_ap_reward,
    odlength_reward,
    set_f1_reward,
    weighted_sum_reward,
)
from vlm_r1.rewards.format import format_reward, json_format, one_answer, tags
from vlm_r1.rewards.length import cosine_length, overlong
from vlm_r1.rewards.math import math_reward
from vlm_r1.rewards.model import RewardModel
from vlm_r1.rewards.numbers import count_relative, exact_number, numeric
from vlm_r1.rewards.points import point_distance, point_in_region
from vlm_r1.rewards.repetition import repetition
from vlm_r1.rewards.text import anls, default, edit_ratio, exact_match

REWARDS: Mapping[str, Callable[..., Any]] = {
    # one box
    "iou": iou_reward,
    "iou_threshold": iou_threshold_reward,
    "iou_power": iou_power_reward,
    "giou": giou_reward,
    "diou": diou_reward,
    "ciou": ciou_reward,
    # sets of boxes
    "map": map_reward,
    "ap50": ap50_reward,
    "odlength": odlength_reward,
    "set_f1": set_f1_reward,
    "weighted_sum": weighted_sum_reward,
    "nms_ap": nms_ap_reward,
    "count_penalty": count_penalty,
    # a point or a box in a region
    "point_in_region": point_in_region,
    "point_in_box": point_in_region,
    "point_distance": point_distance,
    # numbers, choices, texts
    "count": exact_number,
    "count_relative": count_relative,
    "numeric": numeric,
    "choice": choice,
    "yes_no": yes_no,
    "exact_match": exact_match,
    "edit_ratio": edit_ratio,
    "anls": anls,
    "math": math_reward,
    "default": default,
    # any answer: form and length
    "format": format_reward,
    "tags": tags,
    "json_format": json_format,
    "one_answer": one_answer,
    "cosine_length": cosine_length,
    "overlong": overlong,
    "repetition": repetition,
    # any answer: a model judges; a recipe may name it, a row may not (`registry.NOT_IN_ROWS`)
    "reward_model": RewardModel,
    # names of the original VLM-R1's accu_reward_method
    "all_match": exact_match,
    "length": cosine_length,
    "cosine": cosine_length,
    "mcq": choice,
    "od_ap": map_reward,
    "od_ap50": ap50_reward,
    "od_length": odlength_reward,
    "odLength": odlength_reward,
}

__all__ = ["COMBINATIONS", "REWARDS", "RewardFunction", "RewardInput"]
