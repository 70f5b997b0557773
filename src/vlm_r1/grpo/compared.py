"""What the completions of a group are compared by: their total rewards, or each component by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vlm_r1.config import Config
from vlm_r1.config.secrets import masked
from vlm_r1.grpo.advantage import decoupled_advantages, group_advantages
from vlm_r1.types import Group, Score


def has_signal(group: Group, config: Config) -> bool:
    """Return whether what the group is compared by differs: the reward, or a component that has a weight."""
    columns = zip(*(_compared(rollout.score, config) for rollout in group.rollouts), strict=True)
    return any(len({*column} - {None}) > 1 for column, weight in zip(columns, _weights(config), strict=True) if weight)


def compare(groups: Sequence[Group], config: Config) -> list[list[list[float | None]]]:
    """Return for each completion of each group the numbers that it is compared by: (P, G, K), ragged nowhere."""
    return [[_compared(rollout.score, config) for rollout in group.rollouts] for group in groups]


def advantages_of(numbers_P_G_K: Sequence[Sequence[Sequence[float | None]]], config: Config) -> Tensor:
    """Return the advantages (P, G), float64, of the groups of the whole step, of all processes.

    Args:
        numbers_P_G_K: from `compare`.
    """
    filled = [[[math.nan if x is None else x for x in own] for own in group] for group in numbers_P_G_K]
    numbers_PGK = torch.tensor(filled, dtype=torch.float64)
    if config.grpo.multi_objective_aggregation == "normalize_then_sum":
        return decoupled_advantages(numbers_PGK, _weights(config))
    rewards_PG = numbers_PGK[..., 0]
    return group_advantages(rewards_PG, config.grpo.scale_rewards, judged_PG=~rewards_PG.isnan())


def _compared(score: Score, config: Config) -> list[float | None]:
    if config.grpo.multi_objective_aggregation == "normalize_then_sum":
        return [score.parts[masked(name)] for name in config.rewards]
    return [score.reward]


def _weights(config: Config) -> list[float]:
    """Return the weights of the numbers of `compare`. That of the total reward is 1: its components have theirs."""
    return [*config.rewards.values()] if config.grpo.multi_objective_aggregation == "normalize_then_sum" else [1.0]
