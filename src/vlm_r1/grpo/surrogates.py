"""Surrogates: from the ratio and the advantage of a completion to the loss of each of its tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vlm_r1.config.objective import GrpoSection
from vlm_r1.errors import ConfigError

_DEFAULTS = GrpoSection()


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
        group_tokens_N: how many unmasked tokens the whole group of each completion has, in all micro-batches. None:
            unknown; losses whose mean is over groups need it.
        entropies_NT: entropies in nats of the distributions that the tokens were drawn from, under the policy; with
            gradient if there is an entropy bonus. None: unknown.
        entropy_threshold: tokens with a lower entropy have no policy loss and no bonus.
        options: the recipe's section `grpo`, for the options that only some objectives read.
    """

    logprobs_NT: Tensor
    old_logprobs_NT: Tensor
    ref_logprobs_NT: Tensor | None
    advantages_N: Tensor
    mask_NT: Tensor
    epsilon: float
    epsilon_high: float
    sampled_logprobs_NT: Tensor | None = None
    group_tokens_N: Tensor | None = None
    entropies_NT: Tensor | None = None
    entropy_threshold: float = -math.inf
    options: GrpoSection = _DEFAULTS


class TokenLosses(NamedTuple):
    """The result of a surrogate: a loss for each token, and which ratios reached a limit.

    Attributes:
        losses_NT: floats with gradient; values at masked positions are ignored.
        clipped_low_NT: bool, True if the ratio is below the lower limit and this stops or bounds the gradient; None:
            there is no lower limit.
        clipped_high_NT: the same for the upper limits.
        weights_NT: weights without gradient that the surrogate gives to the tokens, to log their mean; None: none.
    """

    losses_NT: Tensor
    clipped_low_NT: Tensor | None = None
    clipped_high_NT: Tensor | None = None
    weights_NT: Tensor | None = None


def clipped_surrogate(given: LossInput, ratio_NT: Tensor) -> TokenLosses:
    """Return `−min(min(ρ, delta) A, clip(ρ, 1 − epsilon, 1 + epsilon_high) A)`: no gradient beyond a limit.

    Without `delta` there is no limit where A < 0 and ρ is large: the loss of one such token is unbounded.

    Source: PPO arXiv 1707.06347; one clip for each side: DAPO arXiv 2503.14476; delta: INTELLECT-2 arXiv 2505.07291.
    """
    advantages_N1, low, high = given.advantages_N[:, None], 1 - given.epsilon, 1 + given.epsilon_high
    clipped_high_NT = (ratio_NT > high) & (advantages_N1 > 0)
    clipped_low_NT = (ratio_NT < low) & (advantages_N1 < 0)
    capped_NT, delta = ratio_NT, given.options.delta
    if delta is not None:
        capped_NT = ratio_NT.clamp(max=delta)
        clipped_high_NT = clipped_high_NT | ((ratio_NT > delta) & (advantages_N1 < 0))
    losses_NT = -torch.minimum(capped_NT * advantages_N1, ratio_NT.clamp(low, high) * advantages_N1)
    return TokenLosses(losses_NT, clipped_low_NT=clipped_low_NT, clipped_high_NT=clipped_high_NT)


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
        weights_NT=weights_NT,
    )


def soft_surrogate(given: LossInput, ratio_NT: Tensor) -> TokenLosses:
    """Return `−(4 / τ) sigmoid(τ (ρ − 1)) A`: the further a ratio is from 1, the less gradient, without a limit.

    τ is `sapo_temperature_pos` where A > 0, else `sapo_temperature_neg`. At ρ = 1 the gradient is −A, for any τ.

    Source: SAPO arXiv 2511.20347, as in TRL 1.16.
    """
    advantages_N1, options = given.advantages_N[:, None], given.options
    positive, negative = options.sapo_temperature_pos, options.sapo_temperature_neg
    temperatures_N1 = _choose(advantages_N1 > 0, positive, negative, ratio_NT)
    gates_NT = torch.sigmoid(temperatures_N1 * (ratio_NT - 1)) * 4 / temperatures_N1
    return TokenLosses(-gates_NT * advantages_N1)


_LOG_RATIO_LIMITS = (math.log(1e-8), 20.0)
"""Of a whole completion, in nats; a token's is within ±20. As in the authors' code and TRL 1.16."""


def gamma_surrogate(given: LossInput, ratio_NT: Tensor) -> TokenLosses:
    """Return `−φ(w) A log π`, `φ(w) = e^λ w^k e^(−λ w)` without gradient, where w is the ratio of the whole completion.

    w is the product of the ratios of a completion's tokens, not their geometric mean. φ(1) is 1, and φ falls on both
    sides of w = k / λ. k and λ are `vespo_k_pos` and `vespo_lambda_pos` where A ≥ 0, else those of `neg`.

    Source: VESPO arXiv 2602.10693, as in TRL 1.16.
    """
    advantages_N1, options = given.advantages_N[:, None], given.options
    log_ratio_NT = (given.logprobs_NT - given.old_logprobs_NT).detach().clamp(-20.0, 20.0)
    log_w_N1 = log_ratio_NT.sum(dim=1, keepdim=True).clamp(*_LOG_RATIO_LIMITS)
    k_N1 = _choose(advantages_N1 >= 0, options.vespo_k_pos, options.vespo_k_neg, ratio_NT)
    lambda_N1 = _choose(advantages_N1 >= 0, options.vespo_lambda_pos, options.vespo_lambda_neg, ratio_NT)
    weights_N1 = (lambda_N1 + k_N1 * log_w_N1 - lambda_N1 * log_w_N1.exp()).exp()
    return TokenLosses(
        -weights_N1 * advantages_N1 * given.logprobs_NT, weights_NT=weights_N1.expand_as(given.logprobs_NT)
    )


def _choose(where_N1: Tensor, yes: float, no: float, like: Tensor) -> Tensor:
    """torch.where of two numbers would round them to float32."""
    return torch.where(where_N1, like.new_tensor(yes), like.new_tensor(no))


SURROGATES: Mapping[str, Callable[[LossInput, Tensor], TokenLosses]] = {
    "clipped": clipped_surrogate,
    "detached": detached_surrogate,
    "soft": soft_surrogate,
    "gamma": gamma_surrogate,
}
"""(micro-batch, whose log-probabilities are 0 where masked; ratios (N, T)) → losses of its tokens."""
