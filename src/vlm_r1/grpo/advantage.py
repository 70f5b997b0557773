"""Group-relative advantages: how much better an answer was than its siblings."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

ScaleRewards = Literal["group", "batch", "none"]


def group_advantages(
    rewards_PG: Tensor, scale: ScaleRewards, eps: float = 1e-4, judged_PG: Tensor | None = None
) -> Tensor:
    """Compare each completion's reward with the mean of its group.

    `A = (r − mean_G r) / (s + eps)`, where `s` is the unbiased standard deviation of the group ("group") or of all
    rewards of the batch ("batch"); with "none", `A = r − mean_G r`. A group whose rewards are all equal gets exactly 0,
    whatever floating point makes of its mean, so it can be left out of the update without changing the gradient.

    Args:
        rewards_PG: finite floats (P, G), G ≥ 2. "batch" is about the whole step: pass the rewards of all processes.
        scale: what to divide by.
        eps: keeps the quotient finite, in units of reward.
        judged_PG: bool; where False, all parts left the completion out: it takes no part in mean or standard deviation,
            its reward may be anything, and its advantage is 0, as in TRL. None: all were judged.

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
    judged_PG = torch.ones_like(rewards_PG, dtype=torch.bool) if judged_PG is None else judged_PG
    if not bool(torch.isfinite(rewards_PG[judged_PG]).all()):
        raise ValueError(f"rewards_PG must be finite, got {rewards_PG}")
    counts_P1 = judged_PG.sum(dim=1, keepdim=True)
    means_P1 = rewards_PG.masked_fill(~judged_PG, 0.0).sum(dim=1, keepdim=True) / counts_P1.clamp(min=1)
    advantages_PG = (rewards_PG - means_P1).masked_fill(~judged_PG, 0.0)
    if scale == "group":
        variances_P1 = advantages_PG.square().sum(dim=1, keepdim=True) / (counts_P1 - 1).clamp(min=1)
        advantages_PG = advantages_PG / (variances_P1.sqrt() + eps)
    elif scale == "batch" and int(judged_PG.sum()) > 1:
        advantages_PG = advantages_PG / (rewards_PG[judged_PG].std() + eps)
    return advantages_PG.masked_fill(no_signal(rewards_PG, judged_PG)[:, None], 0.0)


def no_signal(rewards_PG: Tensor, judged_PG: Tensor | None = None) -> Tensor:
    """Return for each group whether all its (judged) rewards are equal, so that it teaches nothing: bool (P,).

    >>> no_signal(torch.tensor([[0.0, 1.0], [0.1, 0.1]]))
    tensor([False,  True])
    """
    if judged_PG is None:
        return (rewards_PG == rewards_PG[:, :1]).all(dim=1)
    highest_P = rewards_PG.masked_fill(~judged_PG, -torch.inf).amax(dim=1)
    return highest_P <= rewards_PG.masked_fill(~judged_PG, torch.inf).amin(dim=1)
