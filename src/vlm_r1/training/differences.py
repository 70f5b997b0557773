"""Measures how far two computations of the same numbers are apart, and whether rounding explains it."""

# pyright: standard

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vlm_r1.policy.logprobs import CompletionBatch, Policy, TokenLogProbs
from vlm_r1.types import EncodedPrompt

MEAN_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4, torch.bfloat16: 0.03, torch.float16: 0.01}
"""Largest mean difference of log-probabilities, in nats, that rounding explains, by the type that computes. A single
token may differ by 20 times that. (Measured: 1e-6 in float32 on small models; bfloat16 has 3 digits.)"""

BLANK_TOLERANCE = 1e-6
"""Largest change, in nats, of a model that does not see its image. It gives the same numbers without it."""


class Difference(NamedTuple):
    """Mean and largest absolute difference of log-probabilities, in nats, over tokens."""

    mean: float
    largest: float

    def __str__(self) -> str:
        return f"{self.mean:.2g} a token (at most {self.largest:.2g})"


def difference(scored: TokenLogProbs, other_NT: Tensor) -> Difference:
    """Return the difference of the policy's log-probabilities from others of the same tokens, without padding."""
    differences = (scored.logprobs_NT - other_NT).detach().abs()[scored.mask_NT]
    return Difference(float(differences.mean()), float(differences.max()))


def explained_by_rounding(differs: Difference, dtype: torch.dtype) -> bool:
    """Return whether rounding in the type that computes explains a difference (`MEAN_TOLERANCE`)."""
    tolerance = MEAN_TOLERANCE[dtype]
    return differs.mean <= tolerance and differs.largest <= 20 * tolerance  # NaN is not explained


def image_effect(scored: TokenLogProbs, policy: Policy, batch: CompletionBatch, other: EncodedPrompt) -> float:
    """Return the largest change of log-probabilities, in nats, when the batch's only prompt gets other pixels.

    At most `BLANK_TOLERANCE` means that the model does not see its image.

    Args:
        scored: of the batch as it is.
        other: the prompt with other pixels.
    """
    return difference(scored, policy(batch._replace(prompts=[other])).logprobs_NT).largest


def gradient_difference(gradients: Sequence[Tensor | None], others: Sequence[Tensor | None]) -> float:
    """Return the largest relative difference: over parameters, the norm of the difference over the norm of the other.

    For tiny gradients a thousandth of the norm of all gradients is the divisor. None is a gradient of 0.

    >>> gradient_difference([torch.tensor([3.0]), None], [torch.tensor([4.0]), torch.tensor([0.0])])
    0.25
    """
    whole = sum(float(other.norm()) ** 2 for other in others if other is not None) ** 0.5
    largest = 0.0
    for own, other in zip(gradients, others, strict=True):
        if own is None and other is None:
            continue
        own, other = (torch.zeros_like(y) if x is None else x for x, y in ((own, other), (other, own)))  # type: ignore[arg-type]
        share = float((own - other).norm()) / max(float(other.norm()), 1e-3 * whole, 1e-30)
        if not share <= largest:  # NaN stays
            largest = share
    return largest
