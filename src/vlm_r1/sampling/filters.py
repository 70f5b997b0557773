"""Top-k, top-p and min-p filters, and drawing by inverse transform, as pure functions of tensors."""

# pyright: standard

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from vlm_r1.sampling.base import SamplingParams


def filter_logprobs(logprobs_NV: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """Keep the tokens that top-k, top-p and min-p allow, and renormalise.

    The filters apply in transformers' order, each to the result of the one before. The likeliest token always stays.

    Args:
        logprobs_NV: log-probabilities at the sampling temperature.

    Returns:
        (N, V) log-probabilities that sum to 1, −inf on dropped tokens.
    """
    if 0 < params.top_k < logprobs_NV.shape[-1]:
        kth_N1 = logprobs_NV.topk(params.top_k, dim=-1).values[:, -1:]
        logprobs_NV = logprobs_NV.masked_fill(logprobs_NV < kth_N1, float("-inf")).log_softmax(-1)
    if params.top_p < 1:
        sorted_NV, order_NV = logprobs_NV.sort(dim=-1, descending=True)
        before_NV = sorted_NV.exp().cumsum(-1) - sorted_NV.exp()  # probability of all likelier tokens
        dropped_NV = torch.zeros_like(before_NV, dtype=torch.bool).scatter(-1, order_NV, before_NV >= params.top_p)
        logprobs_NV = logprobs_NV.masked_fill(dropped_NV, float("-inf")).log_softmax(-1)
    if params.min_p > 0:
        floor_N1 = logprobs_NV.amax(-1, keepdim=True) + float(np.log(params.min_p))
        logprobs_NV = logprobs_NV.masked_fill(logprobs_NV < floor_N1, float("-inf")).log_softmax(-1)
    return logprobs_NV


def draw(logprobs_NV: torch.Tensor, uniforms_N: torch.Tensor) -> torch.Tensor:
    """Draw token ids (N,) by inverse transform: the first token whose cumulative probability exceeds u in [0, 1).

    One number decides one token, so a draw does not depend on the other rows. Sums are in float64, because float32
    would lose the tail of a large vocabulary.
    """
    cumulative_NV = logprobs_NV.exp().double().cumsum(-1)
    targets_N1 = uniforms_N[:, None].double() * cumulative_NV[:, -1:]
    return torch.searchsorted(cumulative_NV, targets_N1, right=True)[:, 0].clamp_max(logprobs_NV.shape[-1] - 1)


def uniforms(seeds_N: Sequence[int], length: int) -> torch.Tensor:
    """Return numbers in [0, 1), (N, length). Row n is the counter-based stream (Philox) of seed n."""
    rows = [np.random.Generator(np.random.Philox(key=seed)).random(length) for seed in seeds_N]
    return torch.from_numpy(np.stack(rows))
