"""The GRPO family of losses on padded (N, T) tensors: N completions of one micro-batch, T tokens of the longest.

Every loss is a sum over what is given, divided by a `normalizer` that counts the whole batch of all micro-batches and
processes. Parts add up to the loss of the whole: how a batch is cut changes neither the loss nor the gradient.
(A wrapper that averages gradients over processes wants it multiplied by their number before `backward`.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

LossType = Literal["grpo", "dr_grpo", "dapo", "gspo"]


@dataclass(frozen=True)
class LossOutput:
    """A loss to differentiate, and sums to log.

    Attributes:
        loss: scalar; adds up over micro-batches and processes.
        sums: detached scalars, to be added over the step and divided by "tokens": "kl_sum" (k3, without beta, but
            with the ratio where that weighs it; 0 without a reference), "clipped_low" and "clipped_high" (tokens where
            the clip below, or above, stops the gradient), "tokens" (unmasked ones).
    """

    loss: Tensor
    sums: Mapping[str, Tensor]


def loss_normalizer(loss_type: LossType, completions: int, tokens: int, max_completion_length: int) -> float:
    """Return the count that the loss of a whole batch is divided by; at least 1, so that an empty batch gives 0.

    Args:
        loss_type: grpo, gspo: completions, each of which adds its token mean; dr_grpo: completions times the length
            cap, a constant, so that length earns nothing; dapo: tokens.
        completions: of the whole batch, over all processes, fully masked ones included.
        tokens: unmasked ones of the whole batch, over all processes.
        max_completion_length: the sampling cap, in tokens.

    >>> [loss_normalizer(name, 16, 1000, 512) for name in ("grpo", "dr_grpo", "dapo", "gspo")]
    [16.0, 8192.0, 1000.0, 16.0]
    """
    if loss_type == "dapo":
        return float(max(tokens, 1))
    if loss_type == "dr_grpo":
        return float(max(completions * max_completion_length, 1))
    return float(max(completions, 1))


def grpo_loss(
    logprobs_NT: Tensor,
    old_logprobs_NT: Tensor,
    ref_logprobs_NT: Tensor | None,
    advantages_N: Tensor,
    mask_NT: Tensor,
    *,
    loss_type: LossType,
    epsilon: float,
    epsilon_high: float,
    beta: float,
    normalizer: float,
    use_bias_correction_kl: bool = False,
) -> LossOutput:
    """Clipped policy-gradient loss of one micro-batch, with an optional KL term.

    Per token `l = −min(ρ A, clip(ρ, 1 − epsilon, 1 + epsilon_high) A) + beta · k3`, with ρ of `importance_ratio`. grpo
    and gspo add up each completion's mean of `l` over its own tokens, dr_grpo and dapo add up `l`; then all is divided
    by `normalizer`. With `use_bias_correction_kl` the KL term is `beta · ρ · k3`, ρ with its gradient and unclipped.

    Masked positions may hold anything (padding, −inf, NaN): they add 0 to the loss and to the gradient. An unmasked
    −inf or NaN is a bug of the caller, since a sampled token has a probability: it is not hidden here, so that the
    trainer can see a non-finite loss or gradient.

    Args:
        logprobs_NT: of the completion tokens under the policy, with gradient (natural log, ≤ 0).
        old_logprobs_NT: under the policy that sampled; `logprobs_NT.detach()` in the first iteration.
        ref_logprobs_NT: under the frozen reference, or None.
        advantages_N: one for each completion.
        mask_NT: bool, True for tokens that count: the completion up to and with its stop token.
        normalizer: from `loss_normalizer`.

    Raises:
        ValueError: beta without a reference.

    Source: GRPO arXiv 2402.03300 · Dr. GRPO arXiv 2503.20783 · DAPO arXiv 2503.14476 · GSPO arXiv 2507.18071 ·
    the ratio on the KL term: DeepSeek-V3.2 arXiv 2512.02556, as in TRL 1.16.
    """
    advantages_N1 = advantages_N[:, None]
    ratio_NT = importance_ratio(logprobs_NT, old_logprobs_NT, mask_NT, loss_type)
    clipped_NT = ratio_NT.clamp(1 - epsilon, 1 + epsilon_high)
    losses_NT = -torch.minimum(ratio_NT * advantages_N1, clipped_NT * advantages_N1)
    kl_NT = torch.zeros_like(losses_NT)
    if ref_logprobs_NT is not None:
        kl_NT = k3_kl(logprobs_NT, ref_logprobs_NT, mask_NT) * (ratio_NT if use_bias_correction_kl else 1.0)
        losses_NT = losses_NT + beta * kl_NT
    elif beta:
        raise ValueError(f"beta is {beta}, but there are no log-probabilities of a reference")
    if loss_type in ("grpo", "gspo"):
        losses_NT = losses_NT / mask_NT.sum(dim=1, keepdim=True).clamp(min=1)
    sums = {
        "kl_sum": kl_NT,
        "clipped_low": (ratio_NT < 1 - epsilon) & (advantages_N1 < 0),
        "clipped_high": (ratio_NT > 1 + epsilon_high) & (advantages_N1 > 0),
        "tokens": torch.ones_like(losses_NT),
    }
    return LossOutput(
        loss=(losses_NT * mask_NT).sum() / normalizer,
        sums={name: (values_NT.detach() * mask_NT).sum().to(losses_NT.dtype) for name, values_NT in sums.items()},
    )


def importance_ratio(logprobs_NT: Tensor, old_logprobs_NT: Tensor, mask_NT: Tensor, loss_type: LossType) -> Tensor:
    """Return how much likelier each token has become since it was sampled: (N, T), 1 where masked.

    gspo: `exp(mean_t (lp − old))` over a completion's own tokens, the same for each of them, so that all tokens get an
    equal share of the gradient; otherwise `exp(lp − old)` of each token.

    >>> logprobs, old = torch.tensor([[-1.0, -1.0]]), torch.tensor([[-1.5, -1.5]])
    >>> importance_ratio(logprobs, old, torch.tensor([[True, False]]), "grpo")
    tensor([[1.6487, 1.0000]])
    """
    log_ratio_NT = (logprobs_NT - old_logprobs_NT).masked_fill(~mask_NT, 0.0)
    if loss_type == "gspo":
        mean_N1 = log_ratio_NT.sum(dim=1, keepdim=True) / mask_NT.sum(dim=1, keepdim=True).clamp(min=1)
        log_ratio_NT = mean_N1.expand_as(log_ratio_NT).masked_fill(~mask_NT, 0.0)
    return log_ratio_NT.exp()


def k3_kl(logprobs_NT: Tensor, ref_logprobs_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """Estimate KL(policy ‖ reference) at tokens drawn from the policy: `e^d − d − 1`, `d = ref − lp`; 0 where masked.

    Its value is unbiased and never negative. Its gradient is not that of KL(policy ‖ reference): over tokens drawn from
    the policy it is, in expectation, that of KL(reference ‖ policy). Times the ratio, it is the former.

    Source: J. Schulman, "Approximating KL Divergence" (2020), http://joschu.net/blog/kl-approx.html

    >>> k3_kl(torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.0, -1.0]]), torch.tensor([[True, True]]))
    tensor([[0.0000, 0.7183]])
    """
    difference_NT = (ref_logprobs_NT - logprobs_NT).masked_fill(~mask_NT, 0.0)
    return difference_NT.exp() - difference_NT - 1
