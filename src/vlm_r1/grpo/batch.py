"""Micro-batches of judged groups, with everything that their loss needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from vlm_r1.config import Config
from vlm_r1.grpo.entropy import ALL_TOKENS, EntropyRange
from vlm_r1.grpo.perception import BlankBatch, blank_batch, blank_prompts
from vlm_r1.policy.logprobs import CompletionBatch
from vlm_r1.training.learner import Learner
from vlm_r1.types import Group, StopReason


@dataclass
class LossBatch:
    """A micro-batch with everything that its loss needs.

    Attributes:
        batch: the completions.
        labels_N: name them, e.g. "train.jsonl:7, completion 3 of 8".
        positions: how many positions the language model computes for it.
        advantages_N: one for each completion.
        kept_N1: bool, False for completions that are left out of the loss.
        sampled_logprobs_NT: those that the tokens were sampled with.
        group_tokens_N: how many tokens in the loss the group of each completion has, in all micro-batches.
        old_logprobs_NT: the policy's log-probabilities before the first update; None: not yet computed.
        ref_logprobs_NT: the reference's; None without a KL term.
        blank: the completions on blank images; None without a perception-aware term, or without images.
        entropy: the tokens of the whole update that train by their entropy.
    """

    batch: CompletionBatch
    labels_N: list[str]
    positions: int
    advantages_N: torch.Tensor
    kept_N1: torch.Tensor
    sampled_logprobs_NT: torch.Tensor
    group_tokens_N: torch.Tensor
    old_logprobs_NT: torch.Tensor | None = None
    ref_logprobs_NT: torch.Tensor | None = None
    blank: BlankBatch | None = None
    entropy: EntropyRange = ALL_TOKENS

    def one(self, n: int) -> LossBatch:
        """Return the n-th completion by itself."""
        batch = self.batch.one(n)
        T = len(batch.ids_P_G_T[0][0])
        old, ref = (None if x is None else x[n : n + 1, :T] for x in (self.old_logprobs_NT, self.ref_logprobs_NT))
        own = slice(n, n + 1)
        return LossBatch(
            batch,
            self.labels_N[own],
            self.positions,
            self.advantages_N[own],
            self.kept_N1[own],
            self.sampled_logprobs_NT[own, :T],
            self.group_tokens_N[own],
            old,
            ref,
            self.blank and self.blank.of_one(n),
            self.entropy,
        )

    def tokens(self) -> int:
        """Return how many tokens are in the loss."""
        kept_N = self.kept_N1[:, 0].cpu()  # once: each number of a GPU would be waited for
        return sum(sum(mask_T) for mask_T, kept in zip(self.batch.masks_N(), kept_N, strict=True) if kept)


def loss_batches(groups: Sequence[Group], learner: Learner, weightless: bool = False) -> Iterator[LossBatch]:
    """Cut the groups of this process into micro-batches, with their advantages.

    Args:
        weightless: leave all completions out of the loss.
    """
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    labels = [
        f"{group.record.source}, completion {g} of {len(group.rollouts)}"
        for group in groups
        for g in range(1, len(group.rollouts) + 1)
    ]
    kept_N = [not weightless and _is_kept(rollout.completion.stop_reason, learner.config) for rollout in rollouts]
    tokens_N = [kept_tokens(group, learner.config) for group in groups for _ in group.rollouts]
    completions_P_G = [[rollout.completion for rollout in group.rollouts] for group in groups]
    batch = CompletionBatch.of_groups([group.encoded for group in groups], completions_P_G)
    device = learner.accelerator.device
    perceives = bool(learner.config.grpo.perception_coef) and not weightless
    on_blank = blank_prompts(batch.prompts, learner) if perceives else {}
    for micro in learner.micro_batches(batch, copies=1 + perceives):
        blank = blank_batch(micro.batch, on_blank)
        advantages = [rollouts[n].advantage for n in micro.rows_N]
        yield LossBatch(
            micro.batch,
            [labels[n] for n in micro.rows_N],
            micro.positions + (0 if blank is None else blank.positions(learner.setup.layout)),
            torch.tensor(advantages, dtype=torch.float64, device=device),
            torch.tensor([[kept_N[n]] for n in micro.rows_N], device=device),
            micro.batch.sampled_logprobs_NT(device),
            torch.tensor([tokens_N[n] for n in micro.rows_N], device=device),
            blank=blank,
        )


def kept_tokens(group: Group, config: Config) -> int:
    """Count the tokens of a group that are in the loss."""
    completions = [rollout.completion for rollout in group.rollouts]
    return sum(sum(c.sampled_T) for c in completions if _is_kept(c.stop_reason, config))


def _is_kept(stop_reason: StopReason, config: Config) -> bool:
    return not (config.grpo.mask_truncated_completions and stop_reason is StopReason.LENGTH)
