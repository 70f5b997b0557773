"""What tests of the policy share: random completions, and a scored batch with the gradients of all parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vlm_r1.models.adapter import Adapter
from vlm_r1.policy.logprobs import CompletionBatch, Policy, TokenLogProbs
from vlm_r1.policy.packed import Layout
from vlm_r1.types import Completion, EncodedPrompt, Group, Record, Rollout, Score, StopReason

TEMPERATURE = 0.7
TOLERANCE = 2e-6
"""Of packed against rows in float64: transformers' norms compute in float32 whatever the type of the weights."""


def completions(adapter: Adapter, lengths: Sequence[int], seed: int = 0) -> list[tuple[int, ...]]:
    """Random text tokens, the last one a stop token."""
    generator = torch.Generator().manual_seed(seed)
    stop = adapter.tokenizer.eos_token_id
    return [(*torch.randint(0, 250, (n - 1,), generator=generator).tolist(), stop) for n in lengths]


class Scored(NamedTuple):
    """Detached log-probabilities and entropies of a batch, and the gradients of a random sum of the former."""

    logprobs_NT: Tensor
    entropies_NT: Tensor
    gradients: Mapping[str, Tensor]


def judged_group(
    adapter: Adapter, prompt: EncodedPrompt, lengths: Sequence[int], advantages: Sequence[float], seed: int
) -> Group:
    """A group with these advantages, whose sampler says that every token had the log-probability 0."""
    rollouts = [
        Rollout(Completion.sampled(ids, (0.0,) * len(ids), "", StopReason.STOP), Score(0.0, {}, None, None, {}), a)
        for ids, a in zip(completions(adapter, lengths, seed), advantages, strict=True)
    ]
    return Group(Record("0", "rec", "", (), None), prompt, tuple(rollouts))


def weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights, by name."""
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def score(policy: Policy, batch: CompletionBatch, layout: Layout | None = None) -> Scored:
    scored: TokenLogProbs = policy(batch, layout)
    (scored.logprobs_NT * coefficients(scored.logprobs_NT)).sum().backward()
    return Scored(scored.logprobs_NT.detach(), scored.entropies_NT, take_gradients(policy.model))


def coefficients(logprobs_NT: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(logprobs_NT.shape, generator=generator, dtype=torch.float64).to(logprobs_NT.dtype)


def take_gradients(model: nn.Module) -> dict[str, Tensor]:
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return gradients


def largest_difference(a: Scored, b: Scored) -> tuple[float, float, float]:
    """Of log-probabilities, of entropies, and of gradients relative to each parameter's largest."""
    assert a.gradients.keys() == b.gradients.keys()
    assert a.gradients
    return (
        float((a.logprobs_NT - b.logprobs_NT).abs().max()),
        float((a.entropies_NT - b.entropies_NT).abs().max()),
        max(relative(a.gradients[name], b.gradients[name]) for name in a.gradients),
    )


def relative(gradient: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest expected entry, or over 1 where all of these are small."""
    return float((gradient - expected).abs().max()) / max(1.0, float(expected.abs().max()))
