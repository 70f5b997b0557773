"""The perception-aware term: the policy must answer differently when the images of its prompt are hidden (PAPO)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

from torch import Tensor

from vlm_r1.config.objective import GrpoSection, Loss
from vlm_r1.config.words import Layout
from vlm_r1.grpo.loss import k3_kl, tokens_of_each
from vlm_r1.policy.logprobs import CompletionBatch, TokenLogProbs, count_positions
from vlm_r1.training.learner import Learner
from vlm_r1.types import EncodedPrompt

LARGEST_KL = 10.0
"""Nats of one token above which the term has no gradient, as in the authors' code; a hidden token may cost any more."""


class BlankBatch(NamedTuple):
    """The completions of a micro-batch whose prompts have images, with blank images in their place.

    Attributes:
        batch: these completions.
        rows_N: their numbers in the micro-batch.
    """

    batch: CompletionBatch
    rows_N: list[int]

    def of_one(self, n: int) -> BlankBatch | None:
        """Return the twin of the micro-batch's n-th completion by itself; None if its prompt has no image."""
        return BlankBatch(self.batch.one(self.rows_N.index(n)), [0]) if n in self.rows_N else None

    def positions(self, layout: Layout) -> int:
        """Return how many positions the language model computes for it."""
        members = [(p, g) for p, ids_G_T in enumerate(self.batch.ids_P_G_T) for g in range(len(ids_G_T))]
        return count_positions(self.batch, members, layout)


class PerceptionOutput(NamedTuple):
    """The term of one micro-batch.

    Attributes:
        loss: scalar with gradient; adds up over micro-batches and processes, as the policy loss does.
        sums: detached scalars: "perception_kl_sum", k3 over all tokens that count; "perception_tokens", their number.
    """

    loss: Tensor
    sums: dict[str, Tensor]


def perception_losses(
    logprobs_NT: Tensor, blank_logprobs_NT: Tensor, mask_NT: Tensor, coef: float, entropy_coef: float
) -> Tensor:
    """Return the loss of each token: `−coef · min(k3, 10) − entropy_coef · (log π + log π_blank)`, (N, T).

    `k3 = e^d − d − 1` with `d = log π_blank − log π` estimates KL(π ‖ π_blank) at tokens drawn from π without bias
    (`k3_kl`). The loss wants it large. Both log-probabilities have their gradient, as in the paper's eq. 2. The second
    term keeps both likely, or the policy could make the KL large by writing noise without its images.

    Args:
        logprobs_NT: of the completions under the policy, with their images.
        blank_logprobs_NT: the same, with blank images in their place.
        mask_NT: bool, True for tokens that count; the loss is 0 elsewhere.
        coef: `grpo.perception_coef`, γ of the paper.
        entropy_coef: `grpo.perception_entropy_coef`, η₁ and η₂ of the paper, which sets them alike.

    Source: PAPO, arXiv 2507.06448, eq. 2; KL estimator and limit as in its code (github.com/MikeWangWZHL/PAPO).

    >>> import torch
    >>> logprobs, blank = torch.tensor([[-1.0]]), torch.tensor([[-3.0]])  # k3 = e^−2 + 2 − 1 = 1.1353
    >>> perception_losses(logprobs, blank, torch.tensor([[True]]), 0.1, 0.01)  # −0.11353 + 0.04
    tensor([[-0.0735]])
    """
    kl_NT = k3_kl(logprobs_NT, blank_logprobs_NT, mask_NT).clamp(max=LARGEST_KL)
    surprisal_NT = -(logprobs_NT + blank_logprobs_NT)
    return (entropy_coef * surprisal_NT - coef * kl_NT).masked_fill(~mask_NT, 0.0)


def perception_output(
    logprobs_NT: Tensor,
    blank_logprobs_NT: Tensor,
    mask_NT: Tensor,
    loss: Loss,
    grpo: GrpoSection,
    *,
    normalizer: float,
    group_tokens_N: Tensor | None = None,
) -> PerceptionOutput:
    """Average `perception_losses` over a micro-batch as its policy loss is averaged.

    Args:
        logprobs_NT: of the completions whose prompts have images.
        blank_logprobs_NT: of the same completions, with blank images.
        mask_NT: bool, True for tokens that count.
        normalizer: from `loss_normalizer`, of the whole batch, completions without images included.
        group_tokens_N: tokens of each completion's whole group; a mean over groups needs it.
    """
    losses_NT = perception_losses(
        logprobs_NT, blank_logprobs_NT, mask_NT, grpo.perception_coef, grpo.perception_entropy_coef
    )
    losses_NT = losses_NT / tokens_of_each(mask_NT, loss, group_tokens_N)
    kl_NT = k3_kl(logprobs_NT.detach(), blank_logprobs_NT.detach(), mask_NT)
    return PerceptionOutput(
        losses_NT.sum() / normalizer,
        {"perception_kl_sum": kl_NT.sum(), "perception_tokens": mask_NT.sum().to(kl_NT.dtype)},
    )


def blank_prompts(prompts: Sequence[EncodedPrompt], learner: Learner) -> dict[int, EncodedPrompt]:
    """Return for each prompt with images, by its `id`, the prompt with blank images of the same size."""
    with_images = [prompt for prompt in prompts if prompt.frames]
    with learner.autocast():
        made = learner.with_features([learner.adapter.blank(prompt) for prompt in with_images])
    return {id(prompt): blank for prompt, blank in zip(with_images, made, strict=True)}


def blank_batch(batch: CompletionBatch, on_blank: Mapping[int, EncodedPrompt]) -> BlankBatch | None:
    """Return the completions whose prompts have images, on blank ones; None if there are none.

    Args:
        on_blank: from `blank_prompts`.
    """
    kept = [p for p, prompt in enumerate(batch.prompts) if id(prompt) in on_blank]
    if not kept:
        return None
    first_P = [0, *accumulate(len(ids_G_T) for ids_G_T in batch.ids_P_G_T)]
    rest = [None if values is None else [values[p] for p in kept] for values in batch[1:]]
    blank = CompletionBatch([on_blank[id(batch.prompts[p])] for p in kept], *rest)  # type: ignore[arg-type]
    return BlankBatch(blank, [n for p in kept for n in range(first_P[p], first_P[p + 1])])


def both(batch: CompletionBatch, blank: BlankBatch | None) -> CompletionBatch:
    """Return the completions with images, followed by those on blank images: one pass computes both."""
    if blank is None:
        return batch
    joined = [None if a is None or b is None else [*a, *b] for a, b in zip(batch, blank.batch, strict=True)]
    return CompletionBatch(*joined)  # type: ignore[arg-type]


def apart(scored: TokenLogProbs, blank: BlankBatch | None) -> tuple[TokenLogProbs, TokenLogProbs | None]:
    """Take the result of a pass over `both` apart: the completions with images, and their twins on blank images."""
    if blank is None:
        return scored, None
    N = len(scored.mask_NT) - len(blank.rows_N)
    return TokenLogProbs(*(x[:N] for x in scored)), TokenLogProbs(*(x[N:] for x in scored))
