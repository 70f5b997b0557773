"""Attention of many independent segments: forward with log-sum-exp, and backward from given out and log-sum-exp.

Torch has no public function that returns the log-sum-exp and differentiates from a merged one, so the private flash
operators are called here, and only here; tests/policy/test_kernels.py holds them against public sdpa. All tensors are
(1, heads, tokens, head_dim), log-sum-exps (1, heads, tokens); segment i of the queries sees segment i of the keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

_cpu_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_cpu_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default
_cuda_forward = torch.ops.aten._flash_attention_forward.default
_cuda_backward = torch.ops.aten._flash_attention_backward.default

Lengths = Sequence[int]


def attend(
    q: Tensor, k: Tensor, v: Tensor, q_lengths: Lengths, k_lengths: Lengths, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """(out, lse): softmax attention of each segment of queries to its segment of keys; the key heads may be fewer.

    Args:
        q_lengths, k_lengths: tokens of each segment, in order, none of them 0; equal where `causal`.
    """
    if q.device.type == "cuda" and q.dtype in (torch.bfloat16, torch.float16):
        return _varlen(q, k, v, q_lengths, k_lengths, causal, scale)
    forward = _cpu_forward_once if q.device.type == "cpu" else _plain
    parts: Iterator[Any] = zip(_split(q, q_lengths), _split(k, k_lengths), _split(v, k_lengths), strict=True)
    outs, lses = zip(*(forward(*part, causal, scale) for part in parts), strict=True)
    return torch.cat(outs, 2), torch.cat(lses, 2)


def attend_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    q_lengths: Lengths,
    k_lengths: Lengths,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients (dq, dk, dv) of `attend` where its out and lse were merged with those of further keys."""
    if q.device.type == "cuda" and q.dtype in (torch.bfloat16, torch.float16):
        return _varlen_backward(grad, q, k, v, out, lse, q_lengths, k_lengths, causal, scale)
    backward = _cpu_backward_once if q.device.type == "cpu" else _plain_backward
    lengths = (q_lengths, q_lengths, k_lengths, k_lengths, q_lengths, q_lengths)
    tensors = zip((grad, q, k, v, out, lse), lengths, strict=True)
    grads = [backward(*part, causal, scale) for part in zip(*(_split(*pair) for pair in tensors), strict=True)]  # type: ignore[call-arg]
    dq, dk, dv = (torch.cat(pieces, 2) for pieces in zip(*grads, strict=True))
    return dq, dk, dv


def wide_scores(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """scale · q kᵀ in float32 or wider, (…, n, m) of (…, n, d) and (…, m, d), as flash attention has its scores.

    In bfloat16 a score of 100 would be rounded to a multiple of a half.
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    if q.dtype == wide:
        return q * scale @ k.mT
    if q.device.type == "cuda":
        return torch.bmm(q.flatten(0, -3), k.flatten(0, -3).mT, out_dtype=wide).unflatten(0, q.shape[:-2]).mul_(scale)
    with torch.autocast(q.device.type, enabled=False):
        return q.to(wide) * scale @ k.to(wide).mT


def _split(x: Tensor, lengths: Lengths) -> tuple[Tensor, ...]:
    return x.split(list(lengths), 2)


def _cpu_forward_once(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    return _cpu_forward(q, k, v, 0.0, causal, scale=scale)


def _cpu_backward_once(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    return _cpu_backward(grad, q, k, v, out, lse, 0.0, causal, scale=scale)


def _varlen(
    q: Tensor, k: Tensor, v: Tensor, q_lengths: Lengths, k_lengths: Lengths, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """All segments in one call of flash attention, on (tokens, heads, head_dim)."""
    out, lse, *_ = _cuda_forward(
        _tokens_first(q),
        _tokens_first(k),
        _tokens_first(v),
        _ends(q_lengths, q.device),
        _ends(k_lengths, q.device),
        max(q_lengths),
        max(k_lengths),
        0.0,
        causal,
        False,
        scale=scale,
    )
    return out.transpose(0, 1)[None], lse[None]


def _varlen_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    q_lengths: Lengths,
    k_lengths: Lengths,
    causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    no_dropout = torch.zeros(2, dtype=torch.uint64, device=q.device)
    grads = _cuda_backward(
        *(_tokens_first(x) for x in (grad, q, k, v, out)),
        lse[0].contiguous(),
        _ends(q_lengths, q.device),
        _ends(k_lengths, q.device),
        max(q_lengths),
        max(k_lengths),
        0.0,
        causal,
        no_dropout,
        no_dropout,
        scale=scale,
    )
    dq, dk, dv = (x.transpose(0, 1)[None] for x in grads)
    return dq, dk, dv


def _tokens_first(x: Tensor) -> Tensor:
    return x[0].transpose(0, 1).contiguous()


def _ends(lengths: Lengths, device: torch.device) -> Tensor:
    """Cumulative lengths from 0, int32, as varlen kernels want them."""
    return torch.tensor([0, *lengths], device=device).cumsum(0).to(torch.int32)


def _plain(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """By matrix products, for what flash attention does not know: other devices, and float32 on a GPU."""
    scores = _scores(q, k, causal, scale)
    lse = scores.logsumexp(-1)
    return ((scores - lse[..., None]).exp() @ _repeated(v, q)).to(q.dtype), lse


def _plain_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    probabilities = (_scores(q, k, causal, scale) - lse[..., None]).exp()
    d_scores = probabilities * (grad @ _repeated(v, q).mT - (grad * out).sum(-1, keepdim=True)) * scale
    dq = d_scores @ _repeated(k, q)
    dk, dv = d_scores.mT @ q, probabilities.mT @ grad
    return dq, _summed(dk, k), _summed(dv, v)


def _scores(q: Tensor, k: Tensor, causal: bool, scale: float) -> Tensor:
    scores = q @ _repeated(k, q).mT * scale
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
    return scores


def _repeated(x: Tensor, q: Tensor) -> Tensor:
    """Key heads repeated to the number of query heads."""
    return x.repeat_interleave(q.shape[1] // x.shape[1], 1)


def _summed(grad: Tensor, x: Tensor) -> Tensor:
    """The gradient of `_repeated`."""
    return grad.unflatten(1, (x.shape[1], -1)).sum(2)
