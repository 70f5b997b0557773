"""Attention of many independent blocks: forward with log-sum-exp, and backward from given out and log-sum-exp.

Torch has no public function that returns the log-sum-exp and differentiates from a merged one. So the private flash
operators are called here, and only here; tests/policy/test_kernels.py compares them with public sdpa. All tensors are
(1, heads, tokens, head_dim), log-sum-exps (1, heads, tokens). Block i of the queries sees block i of the keys.
"""

# pyright: standard

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

_cpu_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
_cpu_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default
_cuda_forward = torch.ops.aten._flash_attention_forward.default
_cuda_backward = torch.ops.aten._flash_attention_backward.default

Lengths = Sequence[int]


class Gpu(NamedTuple):
    """The compute capability of a CUDA device, e.g. (8, 0) for Ampere, and whether it is an AMD device."""

    capability: tuple[int, int]
    rocm: bool


def flash_obstacle(gpu: Gpu, dtype: torch.dtype, head_dim: int, value_dim: int) -> str:
    """Return why torch's flash attention of ragged blocks cannot be used on a GPU; "" if it can.

    The conditions are those of FlashAttention-2 (arXiv 2307.08691) in torch. Otherwise `attend` uses matrix products,
    which are exact, but slower.
    """
    if dtype not in (torch.bfloat16, torch.float16):
        return f"it computes in {str(dtype).removeprefix('torch.')}"
    if gpu.rocm:
        return "its order of log-sum-exps on AMD's GPUs was not checked"
    if gpu.capability < (8, 0):
        return f"this GPU, of compute capability {gpu.capability[0]}.{gpu.capability[1]}, is older than Ampere (8.0)"
    if head_dim != value_dim or head_dim % 8 or head_dim > 256:
        return f"heads of {head_dim} and {value_dim} numbers are not of one size, a multiple of 8 up to 256"
    return ""


@lru_cache(maxsize=16)
def obstacle_on(device: torch.device, dtype: torch.dtype, head_dim: int, value_dim: int) -> str:
    """Return `flash_obstacle` of a CUDA device of this machine; "" for other devices, which have their own kernels."""
    if device.type != "cuda":
        return ""
    gpu = Gpu(torch.cuda.get_device_capability(device), torch.version.hip is not None)
    return flash_obstacle(gpu, dtype, head_dim, value_dim)


def attend(
    q: Tensor, k: Tensor, v: Tensor, q_lengths: Lengths, k_lengths: Lengths, causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """Return (out, lse) of the softmax attention of each block of queries to its block of keys.

    There may be fewer heads of keys than of queries.

    Args:
        q_lengths, k_lengths: tokens of each block, in order, none of them 0; the same if `causal`.
    """
    if _is_for_flash(q, v):
        return _varlen(q, k, v, q_lengths, k_lengths, causal, scale)
    forward = _cpu_forward_once if q.device.type == "cpu" else _plain
    blocks: Iterator[Any] = zip(_split(q, q_lengths), _split(k, k_lengths), _split(v, k_lengths), strict=True)
    outs, lses = zip(*(forward(*block, causal, scale) for block in blocks), strict=True)
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
    """Return the gradients (dq, dk, dv) of `attend`, if its out and lse were merged with those of further keys."""
    if _is_for_flash(q, v):
        return _varlen_backward(grad, q, k, v, out, lse, q_lengths, k_lengths, causal, scale)
    backward = _cpu_backward_once if q.device.type == "cpu" else _plain_backward
    lengths = (q_lengths, q_lengths, k_lengths, k_lengths, q_lengths, q_lengths)
    tensors = zip((grad, q, k, v, out, lse), lengths, strict=True)
    blocks = zip(*(_split(*pair) for pair in tensors), strict=True)
    grads = [backward(*block, causal, scale) for block in blocks]  # type: ignore[call-arg]
    dq, dk, dv = (torch.cat(pieces, 2) for pieces in zip(*grads, strict=True))
    return dq, dk, dv


def _is_for_flash(q: Tensor, v: Tensor) -> bool:
    return q.device.type == "cuda" and not obstacle_on(q.device, q.dtype, q.shape[-1], v.shape[-1])


def wide_scores(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """Return scale · q kᵀ in float32 or wider, as flash attention does: (…, n, d) and (…, m, d) give (…, n, m).

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
    """Compute all blocks in one call of flash attention, on (tokens, heads, head_dim)."""
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
    """(tokens, heads, head_dim); the kernels take any strides but the last one's."""
    x = x[0].transpose(0, 1)
    return x if x.stride(-1) == 1 else x.contiguous()


def _ends(lengths: Lengths, device: torch.device) -> Tensor:
    """Return the cumulative lengths from 0, int32, as varlen kernels want them."""
    return _ends_on(tuple(lengths), device)


@lru_cache(maxsize=64)  # all layers of a micro-batch need the same few, forward and backward
def _ends_on(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)


def _plain(q: Tensor, k: Tensor, v: Tensor, causal: bool, scale: float) -> tuple[Tensor, Tensor]:
    """Attention by matrix products in float32 or wider, for the cases of `flash_obstacle`."""
    dtype, (q, k, v) = q.dtype, _widened(q, k, v)
    scores = _scores(q, k, causal, scale)
    lse = scores.logsumexp(-1)
    return ((scores - lse[..., None]).exp() @ _repeated(v, q)).to(dtype), lse


def _plain_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, causal: bool, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    dtype, (grad, q, k, v, out) = q.dtype, _widened(grad, q, k, v, out)
    probabilities = (_scores(q, k, causal, scale) - lse[..., None]).exp()
    d_scores = probabilities * (grad @ _repeated(v, q).mT - (grad * out).sum(-1, keepdim=True)) * scale
    dq = d_scores @ _repeated(k, q)
    dk, dv = d_scores.mT @ q, probabilities.mT @ grad
    return dq.to(dtype), _summed(dk, k).to(dtype), _summed(dv, v).to(dtype)


def _widened(*tensors: Tensor) -> list[Tensor]:
    return [x.to(torch.promote_types(x.dtype, torch.float32)) for x in tensors]


def _scores(q: Tensor, k: Tensor, causal: bool, scale: float) -> Tensor:
    scores = q @ _repeated(k, q).mT * scale
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
    return scores


def _repeated(x: Tensor, q: Tensor) -> Tensor:
    """Repeat the heads of keys to the number of heads of queries."""
    return x.repeat_interleave(q.shape[1] // x.shape[1], 1)


def _summed(grad: Tensor, x: Tensor) -> Tensor:
    """The gradient of `_repeated`."""
    return grad.unflatten(1, (x.shape[1], -1)).sum(2)
