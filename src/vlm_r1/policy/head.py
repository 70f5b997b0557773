"""Computes log-probabilities of tokens and entropies from hidden states, without ever holding all logits."""

# pyright: standard

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from vlm_r1.policy.penalty import Seen, penalty_slopes

CHUNK_LOGITS = 1 << 25
"""How many logits exist at once: 128 MiB in float32, or 220 tokens of a vocabulary of 152 thousand."""


@dataclass(frozen=True)
class AfterHead:
    """What a model's forward does to the logits x of its output head: cap · tanh(scale · x / cap), or scale · x.

    Attributes:
        scale: as Cohere's models multiply their logits; 1 in most families.
        cap: the largest logit, as Gemma's models have it (`final_logit_softcapping`); None: there is none.
    """

    scale: float = 1.0
    cap: float | None = None

    @property
    def is_plain(self) -> bool:
        """True if it changes nothing."""
        return self.scale == 1.0 and self.cap is None

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the model's logits from those of the head, in float32 or wider if they change.

        >>> AfterHead(0.25, 2.0)(torch.tensor([0.0, 8.0, 8000.0]))  # 2 tanh(0.25 · 8 / 2) = 1.5232
        tensor([0.0000, 1.5232, 2.0000])
        """
        if self.is_plain:
            return logits
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) * self.scale
        return logits if self.cap is None else (logits / self.cap).tanh_() * self.cap

    def slope(self, logits: Tensor) -> Tensor | float:
        """Return the derivative of the model's logits by those of the head: scale · (1 − (logit / cap)²)."""
        return self.scale if self.cap is None else (1 - (logits / self.cap).square_()) * self.scale


PLAIN = AfterHead()
"""Of most families."""


def tempered_logits(logits: Tensor, temperature: float, banned_ids: Sequence[int]) -> Tensor:
    """Return logits / temperature in float32 or wider, −inf for banned tokens. The last axis is the vocabulary.

    Their softmax is the distribution that is trained, and sampled from if no filter such as top-p is set.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    return logits.index_fill_(-1, _on(tuple(banned_ids), logits.device), float("-inf"))


class LogitRule(NamedTuple):
    """From the logits of the output head to those whose softmax is the policy.

    Attributes:
        temperature: logits are divided by it.
        banned_ids: tokens that cannot be drawn.
        after_head: what the model's forward does to the logits.
        seen: what stands before each scored token, if repetition has a penalty.
    """

    temperature: float
    banned_ids: tuple[int, ...]
    after_head: AfterHead = PLAIN
    seen: Seen | None = None

    def of(self, own: slice) -> LogitRule:
        """Return the rule for some of the scored tokens."""
        return self if self.seen is None else self._replace(seen=self.seen.chunk(own))

    def __call__(self, logits_KV: Tensor) -> Tensor:
        """Return `tempered_logits(after_head(logits))`, `penalised` if tokens were seen."""
        tempered_KV = tempered_logits(self.after_head(logits_KV), self.temperature, self.banned_ids)
        slopes_KV = self.slopes(tempered_KV)
        return tempered_KV if slopes_KV is None else tempered_KV * slopes_KV

    def slopes(self, tempered_KV: Tensor) -> Tensor | None:
        """Return by what the penalty for repetition multiplies logits; None: there is none."""
        if self.seen is None:
            return None
        return penalty_slopes(tempered_KV, self.seen.mask(tempered_KV.shape[-1]), self.seen.penalty)


def token_logprobs(
    hidden_KH: Tensor,
    head: nn.Module,
    ids_K: Tensor,
    rule: LogitRule,
    *,
    entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return (log-probabilities of `ids_K` with gradient, entropies in nats), (K,), float32 or wider.

    Both are of the softmax of `rule(head(hidden))`. It is computed in chunks, which the backward pass computes again:
    memory does not grow with vocabulary × tokens.

    Args:
        head: the output head. A linear layer has a backward pass of its own; another module, such as one with LoRA,
            goes through torch's checkpoint.
        entropy_gradient: entropies have a gradient too. It costs the backward pass one more chunk of logits.
    """
    chunk = max(1, CHUNK_LOGITS // _vocabulary(head))
    if isinstance(head, nn.Linear):
        arguments = (hidden_KH, head.weight, head.bias, ids_K, rule, chunk, entropy_gradient)
        return _ChunkedLogProbs.apply(*arguments)  # type: ignore[return-value]
    chunks = [
        checkpoint(_whole, hidden_KH[own], head, ids_K[own], rule.of(own), entropy_gradient, use_reentrant=False)
        for own in _chunks(len(ids_K), chunk)
    ]
    logprobs, entropies = zip(*chunks, strict=True)  # type: ignore[arg-type]
    return torch.cat(logprobs), torch.cat(entropies)


def _whole(
    hidden_KH: Tensor, head: nn.Module, ids_K: Tensor, rule: LogitRule, entropy_gradient: bool
) -> tuple[Tensor, Tensor]:
    logprobs_KV = rule(head(hidden_KH)).log_softmax(-1)
    if entropy_gradient:  # banned tokens are left out of the product: 0 · −inf
        finite_KV = logprobs_KV.index_fill(-1, _on(rule.banned_ids, logprobs_KV.device), 0.0)
        entropies_K = -(logprobs_KV.exp() * finite_KV).sum(-1)
    else:
        entropies_K = torch.special.entr(logprobs_KV.detach().exp()).sum(-1)
    return logprobs_KV.gather(-1, ids_K[:, None])[:, 0], entropies_K


class _ChunkedLogProbs(torch.autograd.Function):
    """Saves hidden states and one log-sum-exp for each token. Sums of the weight's gradient are float32 or wider."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_KH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor | None,
        ids_K: Tensor,
        *options: Any,
    ) -> tuple[Tensor, Tensor]:
        rule, chunk, entropy_gradient = options
        dtype = _compute_dtype(hidden_KH)
        weight = weight_VH.to(dtype)
        bias = None if bias_V is None else bias_V.to(dtype)
        wide = torch.promote_types(dtype, torch.float32)
        logprobs_K, entropies_K, lse_K = (hidden_KH.new_empty(len(ids_K), dtype=wide) for _ in range(3))
        for own in _chunks(len(ids_K), chunk):
            logits = rule.of(own)(linear(hidden_KH[own].to(dtype), weight, bias))
            lse = lse_K[own] = logits.logsumexp(-1)
            logprobs_K[own] = logits.gather(-1, ids_K[own, None])[:, 0] - lse
            entropies_K[own] = _entropies(logits, lse, rule.banned_ids)
        ctx.save_for_backward(hidden_KH, weight_VH, bias_V, ids_K, lse_K, entropies_K if entropy_gradient else None)
        ctx.options = (rule, chunk, dtype)
        if not entropy_gradient:
            ctx.mark_non_differentiable(entropies_K)
        return logprobs_K, entropies_K

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden_KH, weight_VH, bias_V, ids_K, lse_K, entropies_K = ctx.saved_tensors
        rule, chunk, dtype = ctx.options
        weight = weight_VH.to(dtype)
        bias = None if bias_V is None else bias_V.to(dtype)
        d_hidden = torch.empty_like(hidden_KH)
        d_weight = lse_K.new_zeros(weight_VH.shape) if ctx.needs_input_grad[1] else None
        d_bias = lse_K.new_zeros(len(weight_VH)) if ctx.needs_input_grad[2] else None
        for own in _chunks(len(ids_K), chunk):
            hidden = hidden_KH[own].to(dtype)
            of_model = rule.after_head(linear(hidden, weight, bias))
            logits = tempered_logits(of_model, rule.temperature, rule.banned_ids)
            slopes = rule.of(own).slopes(logits)
            logits = (logits if slopes is None else logits * slopes).sub_(lse_K[own, None])
            grad = grads[0][own, None]
            if entropies_K is None:
                d_logits = logits.exp_().mul_(-grad)
            else:
                d_logits = _with_entropy(logits, entropies_K[own, None], grad, grads[1][own, None], rule.banned_ids)
            d_logits.scatter_add_(-1, ids_K[own, None], grad).div_(rule.temperature)
            if slopes is not None:
                d_logits *= slopes
            if not rule.after_head.is_plain:
                d_logits *= rule.after_head.slope(of_model)
            d_hidden[own] = (d_logits.to(dtype) @ weight).to(d_hidden.dtype)
            if d_weight is not None:
                _add_product(d_weight, d_logits, hidden)
            if d_bias is not None:
                d_bias += d_logits.sum(0)
        d_weight, d_bias = (None if d is None else d.to(weight_VH.dtype) for d in (d_weight, d_bias))
        return d_hidden, d_weight, d_bias, None, None, None, None


def _with_entropy(
    logprobs_KV: Tensor, entropies_K1: Tensor, grad_K1: Tensor, entropy_grad_K1: Tensor, banned_ids: tuple[int, ...]
) -> Tensor:
    """−p (g + h (log p + H)): what log-probabilities with gradient g and entropies H with gradient h ask of logits.

    The g of the token itself is added later. ∂H/∂z_v = −p_v (log p_v + H).
    """
    probabilities_KV = logprobs_KV.exp()
    finite_KV = logprobs_KV.index_fill_(-1, _on(banned_ids, logprobs_KV.device), 0.0)
    return finite_KV.add_(entropies_K1).mul_(-entropy_grad_K1).sub_(grad_K1).mul_(probabilities_KV)


def _entropies(logits_KV: Tensor, lse_K: Tensor, banned_ids: tuple[int, ...]) -> Tensor:
    """lse − Σ p z of each row of logits z; twenty times faster on a CPU than torch.special.entr."""
    probabilities_KV = (logits_KV - lse_K[:, None]).exp_()
    finite_KV = logits_KV.index_fill_(-1, _on(banned_ids, logits_KV.device), 0.0)
    return lse_K - probabilities_KV.mul_(finite_KV).sum(-1)


def _add_product(d_weight: Tensor, d_logits: Tensor, hidden: Tensor) -> None:
    """d_weight += d_logitsᵀ hidden, multiplied in the type of `hidden` and summed in that of `d_weight`."""
    if hidden.dtype == d_weight.dtype:
        d_weight.addmm_(d_logits.T, hidden)
    else:
        d_weight += d_logits.to(hidden.dtype).T @ hidden


def _compute_dtype(hidden: Tensor) -> torch.dtype:
    """The type of the matrix products: autocast's if it is on."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype


def _chunks(length: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, length, size))


@lru_cache(maxsize=8)  # needed for every token and every chunk
def _on(ids: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor(ids, dtype=torch.long, device=device)


def _vocabulary(head: nn.Module) -> int:
    weight = getattr(head, "weight", None)
    return len(weight) if isinstance(weight, Tensor) else 1 << 18
