"""Group-relative advantages: how much better an answer was than its siblings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from vlm_r1.errors import ConfigError
from vlm_r1.registry import resolve

_EPS = 1e-4
"""Added to a standard deviation, in units of reward, so that dividing by it stays finite."""


def group_advantages(rewards_PG: Tensor, scale_rewards: str, judged_PG: Tensor | None = None) -> Tensor:
    """Compare each completion's reward with the mean of its group.

    `A = (r − mean_G r) / (s + 1e-4)`, where `s` is the unbiased standard deviation of the group ("group"), of all
    rewards of the batch ("batch") or of all `r − mean_G r` of the batch ("reinforce_plus_plus"); with "none",
    `A = r − mean_G r`; with "rloo", r minus the mean of the others. A group whose rewards are all equal gets exactly 0,
    without rounding errors. So it can be left out of the update without changing the gradient.

    Args:
        rewards_PG: finite floats (P, G), G ≥ 2, of the whole step, of all processes.
        scale_rewards: a name of `ADVANTAGES`, or `package.module:Name` of such a function.
        judged_PG: bool (P, G); False if all components left the completion out. Then mean and standard deviation do not
            count it, its reward may be anything, and its advantage is 0, as in TRL. None: all were judged.

    Returns:
        Advantages (P, G), same dtype and device.

    Raises:
        ValueError: wrong shape, or a reward that is not finite.
        ConfigError: unknown name, or a function from outside returned no finite advantages (P, G).

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
    advantages_PG = get_advantages(scale_rewards)(rewards_PG.masked_fill(~judged_PG, 0.0), judged_PG)
    wrong = not isinstance(advantages_PG, Tensor) or advantages_PG.shape != rewards_PG.shape  # pyright: ignore[reportUnnecessaryIsInstance]
    if wrong or not bool(torch.isfinite(advantages_PG[judged_PG]).all()):
        raise ConfigError(
            f'scale_rewards "{scale_rewards}" returned {advantages_PG}; wanted finite numbers of shape '
            f"{tuple(rewards_PG.shape)}"
        )
    return advantages_PG.masked_fill(~judged_PG, 0.0)


def differences(rewards_PG: Tensor, judged_PG: Tensor) -> Tensor:
    """Return `r − mean_G r` over judged completions; exactly 0 for the others and for groups of equal rewards."""
    counts_P1 = judged_PG.sum(dim=1, keepdim=True)
    means_P1 = rewards_PG.masked_fill(~judged_PG, 0.0).sum(dim=1, keepdim=True) / counts_P1.clamp(min=1)
    left_out_PG = ~judged_PG | no_signal(rewards_PG, judged_PG)[:, None]
    return (rewards_PG - means_P1).masked_fill(left_out_PG, 0.0)


def scaled_by_group(rewards_PG: Tensor, judged_PG: Tensor) -> Tensor:
    """Return the differences over the standard deviation of their group."""
    differences_PG = differences(rewards_PG, judged_PG)
    degrees_P1 = (judged_PG.sum(dim=1, keepdim=True) - 1).clamp(min=1)
    variances_P1 = differences_PG.square().sum(dim=1, keepdim=True) / degrees_P1
    return differences_PG / (variances_P1.sqrt() + _EPS)


def scaled_by_batch(rewards_PG: Tensor, judged_PG: Tensor) -> Tensor:
    """Return the differences over the standard deviation of all judged rewards."""
    return _over_deviation(differences(rewards_PG, judged_PG), rewards_PG[judged_PG])


def leave_one_out(rewards_PG: Tensor, judged_PG: Tensor) -> Tensor:
    """Return `r − mean of the other judged rewards of its group`, which is the difference times n / (n − 1).

    Source: RLOO, arXiv 2402.14740. There KL is part of the reward; here `beta` is in the loss.
    """
    counts_P1 = judged_PG.sum(dim=1, keepdim=True)
    return differences(rewards_PG, judged_PG) * counts_P1 / (counts_P1 - 1).clamp(min=1)


def whitened_by_batch(rewards_PG: Tensor, judged_PG: Tensor) -> Tensor:
    """Return the differences over the standard deviation of all *differences*; those of "batch" are over rewards.

    The mean of all differences is 0, because that of each group is; so nothing is subtracted, and a group of equal
    rewards keeps exactly 0.

    Source: REINFORCE++ with baseline, arXiv 2501.03262, for one reward a completion.
    """
    differences_PG = differences(rewards_PG, judged_PG)
    return _over_deviation(differences_PG, differences_PG[judged_PG])


def _over_deviation(values_PG: Tensor, of_N: Tensor) -> Tensor:
    """Divide by the standard deviation of the numbers `of_N`, if there are several."""
    return values_PG / (of_N.std() + _EPS) if len(of_N) > 1 else values_PG


def decoupled_advantages(parts_PGK: Tensor, weights_K: Sequence[float]) -> Tensor:
    """Compare each component of the reward within its group by itself, then weigh, sum, and scale by the batch.

    `z_k = (r_k − mean_G r_k) / (std_G r_k + 1e-4)`, `s = Σ_k w_k z_k`, `A = s / (std s + 1e-4)`, where the last
    deviation is that of the whole step. TRL subtracts the mean of s too; it is 0, because that of each group is.

    Args:
        parts_PGK: components (P, G, K), G ≥ 2, of the whole step, of all processes; NaN where a component left a
            completion out: then mean and deviation do not count it, and it adds 0. If all did, its advantage is 0.
        weights_K: those of the components.

    Returns:
        Advantages (P, G). A group in which no weighted component differs gets exactly 0.

    Source: GDPO, arXiv 2601.05242, as in TRL 1.16 (`multi_objective_aggregation: normalize_then_sum`).

    >>> decoupled_advantages(torch.tensor([[[0.0, 0.0], [1.0, 100.0]], [[0.0, 1.0], [0.0, 1.0]]]), [1.0, 1.0])
    tensor([[-1.2246,  1.2246],
            [ 0.0000,  0.0000]])
    """
    present_PGK = ~parts_PGK.isnan()
    sums_PG = torch.zeros_like(parts_PGK[..., 0])
    for k, weight in enumerate(weights_K):
        sums_PG += weight * group_advantages(parts_PGK[..., k], "group", judged_PG=present_PGK[..., k])
    return _over_deviation(sums_PG, sums_PG[present_PGK.any(dim=-1)])


Advantages = Callable[[Tensor, Tensor], Tensor]
"""(rewards_PG, 0 where not judged; judged_PG) → advantages (P, G)."""

ADVANTAGES: Mapping[str, Advantages] = {
    "group": scaled_by_group,
    "batch": scaled_by_batch,
    "none": differences,
    "rloo": leave_one_out,
    "reinforce_plus_plus": whitened_by_batch,
}


def get_advantages(name: str) -> Advantages:
    """Return the function of this name in `ADVANTAGES`, or the one that `package.module:Name` names.

    Raises:
        ConfigError: the name is unknown, cannot be imported, or names something that cannot be called.
    """
    found = resolve("scale_rewards", name, ADVANTAGES)
    if not callable(found):
        raise ConfigError(f'scale_rewards "{name}" is {found!r:.100}; wanted a function (docs/add_an_objective.md)')
    return found


def no_signal(rewards_PG: Tensor, judged_PG: Tensor | None = None) -> Tensor:
    """Return for each group whether all its judged rewards are equal, so that nothing is learnt from it: bool (P,).

    >>> no_signal(torch.tensor([[0.0, 1.0], [0.1, 0.1]]))
    tensor([False,  True])
    """
    if judged_PG is None:
        return (rewards_PG == rewards_PG[:, :1]).all(dim=1)
    highest_P = rewards_PG.masked_fill(~judged_PG, -torch.inf).amax(dim=1)
    return highest_P <= rewards_PG.masked_fill(~judged_PG, torch.inf).amin(dim=1)
