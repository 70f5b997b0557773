"""The GRPO family of losses on padded (N, T) tensors: N completions of one micro-batch, T tokens of the longest.

Every loss is a sum over one micro-batch, divided by a `normalizer` that counts the whole batch of all micro-batches and
processes. So the losses of micro-batches add up: how a batch is cut changes neither the loss nor the gradient. (With a
wrapper that averages gradients over processes, multiply the loss by their number before `backward`.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from vlm_r1.config.objective import LOSSES, Loss
from vlm_r1.errors import ConfigError
from vlm_r1.registry import resolve

__all__ = [
    "LOSSES",
    "Loss",
    "LossInput",
    "LossOutput",
    "TokenLosses",
    "get_loss",
    "grpo_loss",
    "importance_ratio",
    "k3_kl",
    "loss_normalizer",
]


@dataclass(frozen=True)
class LossInput:
    """The input of an objective: one micro-batch, and the limits of its ratios.

    Attributes:
        logprobs_NT: log-probabilities of the completion tokens under the policy, with gradient (natural log, ≤ 0).
        old_logprobs_NT: the same under the policy that sampled; `logprobs_NT.detach()` in the first iteration.
        ref_logprobs_NT: the same under the frozen reference, or None.
        advantages_N: one for each completion.
        mask_NT: bool, True for tokens that count: the completion up to and with its stop token.
        epsilon: the recipe's `grpo.epsilon`: how far a ratio may be below 1.
        epsilon_high: the recipe's `grpo.epsilon_high`: how far it may be above 1.
        sampled_logprobs_NT: log-probabilities that the sampler drew the tokens with. They differ from `old_logprobs_NT`
            if the sampler is not exactly the policy: another engine, or a distribution that top-p cut. None: unknown.
    """

    logprobs_NT: Tensor
    old_logprobs_NT: Tensor
    ref_logprobs_NT: Tensor | None
    advantages_N: Tensor
    mask_NT: Tensor
    epsilon: float
    epsilon_high: float
    sampled_logprobs_NT: Tensor | None = None


class TokenLosses(NamedTuple):
    """The result of a surrogate: a loss for each token, and which ratios reached a limit.

    Attributes:
        losses_NT: floats with gradient; values at masked positions are ignored.
        clipped_low_NT: bool, True if the ratio is below the lower limit and this stops or bounds the gradient; None:
            there is no lower limit.
        clipped_high_NT: the same for the upper limit.
    """

    losses_NT: Tensor
    clipped_low_NT: Tensor | None = None
    clipped_high_NT: Tensor | None = None


@dataclass(frozen=True)
class LossOutput:
    """A loss to differentiate, and sums to log.

    Attributes:
        loss: scalar; adds up over micro-batches and processes.
        sums: detached scalars, which are added over the step and divided by "tokens":
            "tokens": unmasked tokens.
            "kl_sum": k3, without beta, but with the ratio if that weighs it; 0 without a reference.
            "clipped_low", "clipped_high": tokens whose ratio reached a limit, see `TokenLosses`.
            "sampler_gap_sum": distances of the old log-probabilities from the sampler's, if those are known.
        largest_sampler_gap: the largest of these distances, in nats; detached. None: unknown.
    """

    loss: Tensor
    sums: Mapping[str, Tensor]
    largest_sampler_gap: Tensor | None = None


def get_loss(name: str) -> Loss:
    """Return the loss of this name in `LOSSES`, or the `Loss` that `package.module:Name` names.

    Raises:
        ConfigError: the name is unknown, cannot be imported, or names something that is no `Loss`.
    """
    found = resolve("loss", name, LOSSES)
    if not isinstance(found, Loss):  # pyright: ignore[reportUnnecessaryIsInstance] what is imported may be anything
        raise ConfigError(f'loss "{name}" is {found!r:.100}; wanted a Loss (docs/add_an_objective.md)')
    return found


def loss_normalizer(loss: Loss, completions: int, tokens: int, max_completion_length: int) -> float:
    """Return the count that the loss of a whole batch is divided by; at least 1, so that an empty batch gives 0.

    Args:
        loss: its `mean` decides. completion: the number of completions, each of which adds its token mean; tokens: the
            number of tokens; constant: completions times the length cap, so that length earns nothing.
        completions: their number in the whole batch, over all processes, fully masked ones included.
        tokens: number of unmasked tokens in the whole batch, over all processes.
        max_completion_length: the sampling cap, in tokens.

    >>> [loss_normalizer(LOSSES[name], 16, 1000, 512) for name in ("grpo", "dr_grpo", "dapo", "gspo", "cispo")]
    [16.0, 8192.0, 1000.0, 16.0, 1000.0]
    """
    counts = {"completion": completions, "tokens": tokens, "constant": completions * max_completion_length}
    return float(max(counts[loss.mean], 1))


def grpo_loss(
    given: LossInput, loss: Loss, *, normalizer: float, beta: float = 0.0, use_bias_correction_kl: bool = False
) -> LossOutput:
    """Compute the policy-gradient loss of one micro-batch, with an optional KL term.

    The loss of a token is `l = surrogate(ρ, A) + beta · k3`, where ρ is `importance_ratio` and the surrogate is that of
    the loss, e.g. `clipped_surrogate`. If the mean is over completions, each completion adds the mean of `l` over its
    tokens; otherwise each token adds its `l`. The sum is divided by `normalizer`. With `use_bias_correction_kl` the KL
    term is `beta · ρ · k3`; this ρ has its gradient and is not clipped.

    Masked positions may hold anything (padding, −inf, NaN): they add 0 to the loss and to the gradient. A sampled token
    has a probability, so an unmasked −inf or NaN is a bug of the caller. It is not hidden here: the trainer then sees a
    non-finite loss or gradient.

    Args:
        normalizer: from `loss_normalizer`.

    Raises:
        ValueError: beta without a reference.
        ConfigError: a surrogate from outside returned something that is no `TokenLosses` of shape (N, T).

    Source: GRPO arXiv 2402.03300 · Dr. GRPO arXiv 2503.20783 · DAPO arXiv 2503.14476 · GSPO arXiv 2507.18071 ·
    CISPO arXiv 2506.13585 · the ratio on the KL term: DeepSeek-V3.2 arXiv 2512.02556, as in TRL 1.16.
    """
    given = _with_masked_positions_0(given)
    mask_NT = given.mask_NT
    ratio_NT = importance_ratio(given.logprobs_NT, given.old_logprobs_NT, mask_NT, loss)
    token = _token_losses(given, ratio_NT, loss)
    losses_NT = token.losses_NT
    kl_NT = torch.zeros_like(losses_NT)
    if given.ref_logprobs_NT is not None:
        kl_NT = k3_kl(given.logprobs_NT, given.ref_logprobs_NT, mask_NT) * (ratio_NT if use_bias_correction_kl else 1.0)
        losses_NT = losses_NT + beta * kl_NT
    elif beta:
        raise ValueError(f"beta is {beta}, but there are no log-probabilities of a reference")
    if loss.mean == "completion":
        losses_NT = losses_NT / mask_NT.sum(dim=1, keepdim=True).clamp(min=1)
    nothing_NT = torch.zeros_like(mask_NT)
    sums = {
        "kl_sum": kl_NT,
        "clipped_low": nothing_NT if token.clipped_low_NT is None else token.clipped_low_NT,
        "clipped_high": nothing_NT if token.clipped_high_NT is None else token.clipped_high_NT,
        "tokens": torch.ones_like(losses_NT),
    }
    largest_gap = None
    if given.sampled_logprobs_NT is not None:
        sums["sampler_gap_sum"] = (given.old_logprobs_NT - given.sampled_logprobs_NT).abs()
        largest_gap = sums["sampler_gap_sum"].detach().max()
    return LossOutput(
        loss=losses_NT.masked_fill(~mask_NT, 0.0).sum() / normalizer,  # a surrogate from outside may leave NaN there
        sums={name: (values_NT.detach() * mask_NT).sum().to(losses_NT.dtype) for name, values_NT in sums.items()},
        largest_sampler_gap=largest_gap,
    )


def clipped_surrogate(given: LossInput, ratio_NT: Tensor) -> TokenLosses:
    """Return `−min(ρ A, clip(ρ, 1 − epsilon, 1 + epsilon_high) A)`: no gradient beyond the clip, away from 1.

    Source: PPO arXiv 1707.06347; one clip for each side: DAPO arXiv 2503.14476.
    """
    advantages_N1, low, high = given.advantages_N[:, None], 1 - given.epsilon, 1 + given.epsilon_high
    return TokenLosses(
        -torch.minimum(ratio_NT * advantages_N1, ratio_NT.clamp(low, high) * advantages_N1),
        clipped_low_NT=(ratio_NT < low) & (advantages_N1 < 0),
        clipped_high_NT=(ratio_NT > high) & (advantages_N1 > 0),
    )


def detached_surrogate(given: LossInput, ratio_NT: Tensor) -> TokenLosses:
    """Return `−stop_gradient(min(ρ, epsilon_high)) A log π`: each token keeps its gradient, with a capped weight.

    The cap is `epsilon_high` itself, not 1 + epsilon_high, as in TRL 1.16; `epsilon` is not used, as in the paper's
    experiments. `clipped_high_NT` marks all tokens with a capped weight; TRL counts only those with A > 0.

    Raises:
        ConfigError: the cap is below 1, which would scale all gradients down. It is so if a recipe names a loss from
            outside and sets no `epsilon_high`.

    Source: CISPO, MiniMax-M1 arXiv 2506.13585.
    """
    if given.epsilon_high < 1:
        raise ConfigError(
            f"the ratio is capped at grpo.epsilon_high itself; got {given.epsilon_high}, wanted at least 1"
        )
    weights_NT = ratio_NT.detach().clamp(max=given.epsilon_high)
    return TokenLosses(
        -weights_NT * given.advantages_N[:, None] * given.logprobs_NT,
        clipped_high_NT=(ratio_NT > given.epsilon_high) & given.mask_NT,
    )


SURROGATES: Mapping[str, Callable[[LossInput, Tensor], TokenLosses]] = {
    "clipped": clipped_surrogate,
    "detached": detached_surrogate,
}
"""(micro-batch, whose log-probabilities are 0 where masked; ratios (N, T)) → losses of its tokens."""


def _token_losses(given: LossInput, ratio_NT: Tensor, loss: Loss) -> TokenLosses:
    surrogate = loss.surrogate
    if not callable(surrogate):
        return SURROGATES[surrogate](given, ratio_NT)
    found = surrogate(given, ratio_NT)
    if not isinstance(found, TokenLosses):
        raise ConfigError(f"grpo.loss_type: its surrogate returned {found!r:.100}; wanted TokenLosses")
    if any(x_NT is not None and x_NT.shape != given.mask_NT.shape for x_NT in found):
        shapes = [None if x_NT is None else tuple(x_NT.shape) for x_NT in found]
        raise ConfigError(
            f"grpo.loss_type: its surrogate returned TokenLosses of shapes {shapes}; wanted the shape of mask_NT, "
            f"{tuple(given.mask_NT.shape)}"
        )
    return found


def importance_ratio(logprobs_NT: Tensor, old_logprobs_NT: Tensor, mask_NT: Tensor, loss: Loss) -> Tensor:
    """Return how much likelier each token has become since it was sampled: (N, T), 1 where masked.

    Ratio "token": `exp(lp − old)` of each token. Ratio "sequence": `exp(mean_t (lp − old))` over a completion's tokens,
    the same for each of them, so that all tokens get an equal share of the gradient.

    >>> logprobs, old = torch.tensor([[-1.0, -1.0]]), torch.tensor([[-1.5, -1.5]])
    >>> importance_ratio(logprobs, old, torch.tensor([[True, False]]), LOSSES["grpo"])
    tensor([[1.6487, 1.0000]])
    """
    log_ratio_NT = (logprobs_NT - old_logprobs_NT).masked_fill(~mask_NT, 0.0)
    if loss.ratio == "sequence":
        mean_N1 = log_ratio_NT.sum(dim=1, keepdim=True) / mask_NT.sum(dim=1, keepdim=True).clamp(min=1)
        log_ratio_NT = mean_N1.expand_as(log_ratio_NT).masked_fill(~mask_NT, 0.0)
    return log_ratio_NT.exp()


def k3_kl(logprobs_NT: Tensor, ref_logprobs_NT: Tensor, mask_NT: Tensor) -> Tensor:
    """Estimate KL(policy ‖ reference) at tokens drawn from the policy: `e^d − d − 1`, `d = ref − lp`; 0 where masked.

    Its value is unbiased and never negative. Its gradient is not that of KL(policy ‖ reference): over tokens drawn from
    the policy its expectation is the gradient of KL(reference ‖ policy). Multiplied by the ratio, it is the former.

    Source: J. Schulman, "Approximating KL Divergence" (2020), http://joschu.net/blog/kl-approx.html

    >>> k3_kl(torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.0, -1.0]]), torch.tensor([[True, True]]))
    tensor([[0.0000, 0.7183]])
    """
    difference_NT = (ref_logprobs_NT - logprobs_NT).masked_fill(~mask_NT, 0.0)
    return difference_NT.exp() - difference_NT - 1


def _with_masked_positions_0(given: LossInput) -> LossInput:
    """Set log-probabilities to 0 where the mask is False, so that surrogates need not handle other values there."""
    padding_NT = ~given.mask_NT

    def filled(logprobs_NT: Tensor | None) -> Tensor | None:
        return None if logprobs_NT is None else logprobs_NT.masked_fill(padding_NT, 0.0)

    return replace(
        given,
        logprobs_NT=given.logprobs_NT.masked_fill(padding_NT, 0.0),
        old_logprobs_NT=given.old_logprobs_NT.masked_fill(padding_NT, 0.0),
        ref_logprobs_NT=filled(given.ref_logprobs_NT),
        sampled_logprobs_NT=filled(given.sampled_logprobs_NT),
    )
