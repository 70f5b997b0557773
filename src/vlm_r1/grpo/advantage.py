"""Group-relative advantages: how much better an answer was than its siblings."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

ScaleRewards = Literal["group", "batch", "none"]


def group_advantages(rewards_PG: Tensor, scale: ScaleRewards, eps: float = 1e-4) -> Tensor:
    """Compare each completion's reward with the mean of its group.

    `A = (r − mean_G r) / (s + eps)`, where `s` is the unbiased standard deviation of the group ("group") or of all
    rewards of the batch ("batch"); with "none", `A = r − mean_G r`. A group whose rewards are all equal gets exactly 0,
    whatever floating point makes of its mean, so it can be left out of the update without changing the gradient.

    Args:
        rewards_PG: finite floats (P, G), G ≥ 2. "batch" is about the whole step: pass the rewards of all processes.
        scale: what to divide by.
        eps: keeps the quotient finite, in units of reward.

    Returns:
        Advantages (P, G), same dtype and device.

    Raises:
        ValueError: wrong shape, or a reward that is not finite.

    Source: DeepSeekMath (arXiv 2402.03300) section 4.1, as coded in VLM-R1 and TRL 1.16; "none" is Dr. GRPO's
    (arXiv 2503.20783), "batch" is from arXiv 2508.08221.

    >>> group_advantages(torch.tensor([[0.0, 1.0], [0.1, 0.1]]), "none")
    tensor([[-0.5000,  0.5000],
            [ 0.0000,  0.0000]])
    """
    if rewards_PG.ndim != 2 or rewards_PG.shape[1] < 2:
        raise ValueError(f"rewards_PG has shape {tuple(rewards_PG.shape)}, wanted (P, G) with G of at least 2")
    if not bool(torch.isfinite(rewards_PG).all()):
        raise ValueError(f"rewards_PG must be finite, got {rewards_PG}")
    advantages_PG = rewards_PG - rewards_PG.mean(dim=1, keepdim=True)
    if scale == "group":
        advantages_PG = advantages_PG / (rewards_PG.std(dim=1, keepdim=True) + eps)
    elif scale == "batch":
        advantages_PG = advantages_PG / (rewards_PG.std() + eps)
    return advantages_PG.masked_fill(no_signal(rewards_PG)[:, None], 0.0)


def no_signal(rewards_PG: Tensor) -> Tensor:
    """Return for each group whether all its rewards are equal, so that it teaches nothing: bool (P,).

    >>> no_signal(torch.tensor([[0.0, 1.0], [0.1, 0.1]]))
    tensor([False,  True])
    """
    return (rewards_PG == rewards_PG[:, :1]).all(dim=1)
