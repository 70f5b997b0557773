"""The GRPO family of losses on padded (N, T) tensors: N completions of one micro-batch, T tokens of the longest.

Every loss is a sum over one micro-batch, divided by a `normalizer` that counts the whole batch of all micro-batches and
processes. So the losses of micro-batches add up: how a batch is cut changes neither the loss nor the gradient. (With a
wrapper that averages gradients over processes, multiply the loss by their number before `backward`.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vlm_r1.config.objective import LOSSES, Loss
from vlm_r1.errors import ConfigError
from vlm_r1.grpo.surrogates import SURROGATES, LossInput, TokenLosses, clipped_surrogate
from vlm_r1.registry import resolve

__all__ = [
    "LOSSES",
    "Loss",
    "LossInput",
    "LossOutput",
    "TokenLosses",
    "clipped_surrogate",
    "get_loss",
    "grpo_loss",
    "importance_ratio",
    "k3_kl",
    "loss_normalizer",
    "tokens_of_each",
]


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
            "weight_sum": weights of the surrogate, if it has any.
            "off_policy": tokens of completions that `off_policy_mask_threshold` leaves out, if it is set.
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


def loss_normalizer(
    loss: Loss, completions: int, tokens: int, max_completion_length: int, groups: int | None = None
) -> float:
    """Return the count that the loss of a whole batch is divided by; at least 1, so that an empty batch gives 0.

    Args:
        loss: its `mean` decides. completion, sum: the number of completions, each of which adds the mean or the sum of
            its tokens; tokens: the number of tokens; constant: completions times the length cap, so that length earns
            nothing; group: the number of groups.
        completions: their number in the whole batch, over all processes, fully masked ones included.
        tokens: number of unmasked tokens in the whole batch, over all processes.
        max_completion_length: the sampling cap, in tokens.
        groups: their number in the whole batch, over all processes; only the mean over groups needs it.

    Raises:
        ValueError: the mean is over groups, and their number is not given.

    >>> [loss_normalizer(LOSSES[name], 16, 1000, 512, groups=2) for name in ("grpo", "dr_grpo", "dapo", "sapo", "bnpo")]
    [16.0, 8192.0, 1000.0, 16.0, 2.0]
    """
    if loss.mean == "group" and groups is None:
        raise ValueError("the mean of this loss is over groups: wanted their number")
    counts = {
        "completion": completions,
        "sum": completions,
        "tokens": tokens,
        "constant": completions * max_completion_length,
        "group": groups or 0,
    }
    return float(max(counts[loss.mean], 1))


def grpo_loss(
    given: LossInput,
    loss: Loss,
    *,
    normalizer: float,
    beta: float = 0.0,
    use_bias_correction_kl: bool = False,
    entropy_normalizer: float = 1.0,
) -> LossOutput:
    """Compute the policy-gradient loss of one micro-batch, with an optional KL term and an optional entropy bonus.

    The loss of a token is `l = surrogate(ρ, A) + beta · k3`, where ρ is `importance_ratio` and the surrogate is that of
    the loss, e.g. `clipped_surrogate`; it is 0 for tokens without `policy_tokens`. If the mean is over completions,
    each completion adds the mean of `l` over its tokens; if it is over groups, each token adds `l` over the tokens of
    its group; otherwise each token adds its `l`. The sum is divided by `normalizer`. With `use_bias_correction_kl` the
    KL term is `beta · ρ · k3`; this ρ has its gradient and is not clipped. With `entropy_coef` the sum of the entropies
    over `entropy_normalizer`, times the coefficient, is subtracted.

    Masked positions may hold anything (padding, −inf, NaN): they add 0 to the loss and to the gradient. A sampled token
    has a probability, so an unmasked −inf or NaN is a bug of the caller. It is not hidden here: the trainer then sees a
    non-finite loss or gradient.

    Args:
        normalizer: from `loss_normalizer`.
        entropy_normalizer: number of tokens in the whole batch, over all processes, whose entropy reaches the
            threshold.

    Raises:
        ValueError: beta without a reference, an entropy option without entropies, or a mean over groups without their
            tokens.
        ConfigError: a surrogate from outside returned something that is no `TokenLosses` of shape (N, T).

    Source: GRPO arXiv 2402.03300 · Dr. GRPO arXiv 2503.20783 · DAPO arXiv 2503.14476 · GSPO arXiv 2507.18071 ·
    CISPO arXiv 2506.13585 · LUSPO arXiv 2602.05261 · the ratio on the KL term: DeepSeek-V3.2 arXiv 2512.02556, as in
    TRL 1.16. Those of other surrogates are in `surrogates.py`.
    """
    given = _with_masked_positions_0(given)
    mask_NT = given.mask_NT
    ratio_NT = importance_ratio(given.logprobs_NT, given.old_logprobs_NT, mask_NT, loss)
    token = _token_losses(given, ratio_NT, loss)
    trained_NT, near_N1 = policy_tokens(given)
    losses_NT = token.losses_NT.masked_fill(~trained_NT, 0.0)
    kl_NT = torch.zeros_like(losses_NT)
    if given.ref_logprobs_NT is not None:
        kl_NT = k3_kl(given.logprobs_NT, given.ref_logprobs_NT, mask_NT) * (ratio_NT if use_bias_correction_kl else 1.0)
        losses_NT = losses_NT + beta * kl_NT
    elif beta:
        raise ValueError(f"beta is {beta}, but there are no log-probabilities of a reference")
    losses_NT = losses_NT / tokens_of_each(mask_NT, loss, given.group_tokens_N)
    total = losses_NT.masked_fill(~mask_NT, 0.0).sum() / normalizer  # a surrogate from outside may leave NaN there
    if given.options.entropy_coef:
        total = total - given.options.entropy_coef * _entropy_sum(given) / entropy_normalizer
    sums = _sums(given, token, near_N1) | {"kl_sum": kl_NT}
    gaps_NT = sums.get("sampler_gap_sum")
    return LossOutput(
        loss=total,
        sums={name: x_NT.detach().masked_fill(~mask_NT, 0).sum() for name, x_NT in sums.items()},
        largest_sampler_gap=None if gaps_NT is None else gaps_NT.detach().max(),
    )


def _sums(given: LossInput, token: TokenLosses, near_N1: Tensor) -> dict[str, Tensor]:
    """Return what to add up for the log, of each token; the KL is not among it."""
    nothing_NT = torch.zeros_like(given.mask_NT)
    sums = {
        "clipped_low": nothing_NT if token.clipped_low_NT is None else token.clipped_low_NT,
        "clipped_high": nothing_NT if token.clipped_high_NT is None else token.clipped_high_NT,
        "tokens": torch.ones_like(given.logprobs_NT),
    }
    if given.sampled_logprobs_NT is not None:
        sums["sampler_gap_sum"] = (given.old_logprobs_NT - given.sampled_logprobs_NT).abs()
    if token.weights_NT is not None:
        sums["weight_sum"] = token.weights_NT
    if given.options.off_policy_mask_threshold is not None:
        sums["off_policy"] = (~near_N1).expand_as(given.mask_NT)
    return sums


def policy_tokens(given: LossInput) -> tuple[Tensor, Tensor]:
    """Return which tokens have a policy loss, bool (N, T), and which completions are near enough, bool (N, 1).

    Left out are tokens whose entropy is below `entropy_threshold` ("Beyond the 80/20 Rule", arXiv 2506.01939), and
    completions with A < 0 from which the policy has moved: the mean over their tokens of
    `log π_sampled − log π` is above `off_policy_mask_threshold` (DeepSeek-V3.2, arXiv 2512.02556, equation 9). What
    sampled them is the sampler, or the old policy where its log-probabilities are not known. Both still count in the
    normalizer and in the KL term, as in TRL 1.16.

    Raises:
        ValueError: a threshold without entropies.
    """
    trained_NT, near_N1 = torch.ones_like(given.mask_NT), torch.ones_like(given.mask_NT[:, :1])
    if given.entropy_threshold > -math.inf:
        trained_NT = _entropies(given) >= given.entropy_threshold
    threshold = given.options.off_policy_mask_threshold
    if threshold is not None:
        sampled_NT = given.old_logprobs_NT if given.sampled_logprobs_NT is None else given.sampled_logprobs_NT
        sums_N1 = (sampled_NT - given.logprobs_NT.detach()).sum(dim=1, keepdim=True)  # 0 where masked
        distances_N1 = sums_N1 / given.mask_NT.sum(dim=1, keepdim=True).clamp(min=1)
        near_N1 = (given.advantages_N[:, None] >= 0) | (distances_N1 <= threshold)
    return trained_NT & near_N1, near_N1


def _entropy_sum(given: LossInput) -> Tensor:
    """Sum the entropies of the tokens that reach the threshold."""
    entropies_NT = _entropies(given)
    counted_NT = given.mask_NT & (entropies_NT.detach() >= given.entropy_threshold)
    return entropies_NT.masked_fill(~counted_NT, 0.0).sum()


def _entropies(given: LossInput) -> Tensor:
    if given.entropies_NT is None:
        raise ValueError("an option of entropies is set, but there are no entropies")
    return given.entropies_NT


def tokens_of_each(mask_NT: Tensor, loss: Loss, group_tokens_N: Tensor | None = None) -> Tensor:
    """Return by what the loss of each token is divided before the sum: (N, 1), at least 1.

    Raises:
        ValueError: the mean is over groups, and their tokens are not given.
    """
    counts_N = mask_NT.sum(dim=1)
    if loss.mean == "group":
        if group_tokens_N is None:
            raise ValueError("the mean of this loss is over groups: wanted the tokens of each group")
        counts_N = group_tokens_N
    elif loss.mean != "completion":
        counts_N = torch.ones_like(counts_N)
    return counts_N[:, None].clamp(min=1)


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
        entropies_NT=filled(given.entropies_NT),
    )
