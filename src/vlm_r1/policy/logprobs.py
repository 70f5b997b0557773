"""Computes log-probabilities of completions in one root module, which trainers wrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from operator import itemgetter
from typing import NamedTuple, Self, TypeVar

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from vlm_r1.models.adapter import Adapter
from vlm_r1.policy.attention import use_shared_prefix
from vlm_r1.policy.head import AfterHead, LogitRule, token_logprobs
from vlm_r1.policy.packed import Layout, packed_hidden
from vlm_r1.policy.penalty import Seen
from vlm_r1.policy.rows import rows_hidden
from vlm_r1.types import Completion, EncodedPrompt

V = TypeVar("V")


class CompletionBatch(NamedTuple):
    """Groups to score: `prompts[p]` with its completions `ids_P_G_T[p]`, ragged in G and T; no completion is empty.

    Attributes:
        prompts: the prompts of the groups.
        ids_P_G_T: token ids of the completions.
        sampled_P_G_T: True for tokens that count, because the policy sampled them; None: all count, as in gold answers.
        logprobs_P_G_T: log-probabilities that the tokens were sampled with; None: they were not sampled.
    """

    prompts: Sequence[EncodedPrompt]
    ids_P_G_T: Sequence[Sequence[Sequence[int]]]
    sampled_P_G_T: Sequence[Sequence[Sequence[bool]]] | None = None
    logprobs_P_G_T: Sequence[Sequence[Sequence[float]]] | None = None

    @classmethod
    def of_groups(cls, prompts: Sequence[EncodedPrompt], completions_P_G: Sequence[Sequence[Completion]]) -> Self:
        """Make a batch of sampled completions of some prompts."""
        return cls(
            prompts,
            [[one.ids_T for one in own] for own in completions_P_G],
            [[one.sampled_T for one in own] for own in completions_P_G],
            [[one.logprobs_T for one in own] for own in completions_P_G],
        )

    def masks_N(self) -> list[Sequence[bool]]:
        """Return for each completion, in order, which of its tokens count."""
        if self.sampled_P_G_T is None:
            return [[True] * len(ids_T) for ids_G_T in self.ids_P_G_T for ids_T in ids_G_T]
        return [sampled_T for sampled_G_T in self.sampled_P_G_T for sampled_T in sampled_G_T]

    def one(self, n: int) -> CompletionBatch:
        """Return the n-th completion, counted over the groups, with its prompt."""
        places = [(p, g) for p, own in enumerate(self.ids_P_G_T) for g in range(len(own))]
        return _select(self, places[n : n + 1])

    def sampled_logprobs_NT(self, device: torch.device) -> torch.Tensor:
        """Return the log-probabilities that the tokens were sampled with: (N, T), float32, 0 on padding.

        Raises:
            ValueError: the tokens were not sampled.
        """
        if self.logprobs_P_G_T is None:
            raise ValueError("these completions were not sampled, so they have no such log-probabilities")
        rows = [torch.tensor(own) for logprobs_G_T in self.logprobs_P_G_T for own in logprobs_G_T]
        return pad_sequence(rows, batch_first=True).to(device)


class TokenLogProbs(NamedTuple):
    """One row for each completion, in the order of the groups, padded on the right to the longest.

    Attributes:
        logprobs_NT: log-probabilities in nats, float32 or wider; 0 where the mask is False.
        entropies_NT: entropies in nats, without gradient unless asked for; 0 where the mask is False.
        mask_NT: True on tokens that count, False on padding and on tokens that were given.
    """

    logprobs_NT: torch.Tensor
    entropies_NT: torch.Tensor
    mask_NT: torch.Tensor


class Policy(nn.Module):
    """Owns the model. Log-probabilities come only from its forward, so that the hooks of wrappers run.

    Every prompt's images are encoded once. Layout `packed` also computes each prompt only once (`packed.py`). Layout
    `rows` repeats its text for each completion (`rows.py`): it is slower, works for any architecture, and tests compare
    `packed` with it. Logits exist only for completions, a chunk at a time (`head.py`).
    """

    def __init__(
        self,
        model: PreTrainedModel,
        adapter: Adapter,
        temperature: float = 1.0,
        layout: Layout = "packed",
        repetition_penalty: float = 1.0,
    ):
        super().__init__()
        self.model = model
        self.adapter = adapter
        self.temperature = temperature
        self.repetition_penalty = repetition_penalty
        self.layout = layout
        if layout == "packed":
            use_shared_prefix(adapter.unwrap(model))

    def forward(
        self, batch: CompletionBatch, layout: Layout | None = None, *, entropy_gradient: bool = False
    ) -> TokenLogProbs:
        """Score all completions of the batch under softmax(logits / temperature), placeholder tokens excluded.

        With a penalty for repetition, logits of tokens that stand before are `penalised`.

        Args:
            layout: a layout other than the policy's own, to compare the two.
            entropy_gradient: entropies have a gradient too.
        """
        hidden = packed_hidden if (layout or self.layout) == "packed" else rows_hidden
        hidden_KH = hidden(self.model, self.adapter, batch.prompts, batch.ids_P_G_T)
        device, masks_N = hidden_KH.device, batch.masks_N()
        ids_K = torch.tensor([token for ids_G_T in batch.ids_P_G_T for ids_T in ids_G_T for token in ids_T])
        counts_K = torch.tensor([counts for mask_T in masks_N for counts in mask_T])
        if not bool(counts_K.all()):
            ids_K, hidden_KH = ids_K[counts_K], hidden_KH[counts_K.to(device)]
        head = self.adapter.unwrap(self.model).get_output_embeddings()
        seen = None
        if self.repetition_penalty != 1:
            prompts = [prompt.ids_L for prompt in batch.prompts]
            seen = Seen.of(self.repetition_penalty, prompts, batch.ids_P_G_T, counts_K, device)
        after_head = AfterHead(self.adapter.logit_scale, self.adapter.logit_cap)
        rule = LogitRule(self.temperature, tuple(self.adapter.banned_ids()), after_head, seen)
        scored = token_logprobs(hidden_KH, head, ids_K.to(device), rule, entropy_gradient=entropy_gradient)
        mask_NT = pad_sequence([torch.tensor(mask_T) for mask_T in masks_N], batch_first=True).to(device)
        logprobs_NT, entropies_NT = (
            values_K.new_zeros(mask_NT.shape).masked_scatter(mask_NT, values_K) for values_K in scored
        )
        return TokenLogProbs(logprobs_NT, entropies_NT, mask_NT)


@dataclass(frozen=True)
class MicroBatch:
    """The completions of a batch that go through the model at once.

    Attributes:
        batch: these completions, with their prompts.
        rows_N: numbers of these completions in the whole batch.
        positions: how many positions the language model computes for it.
    """

    batch: CompletionBatch
    rows_N: list[int]
    positions: int


def micro_batches(batch: CompletionBatch, max_tokens: int, layout: Layout) -> list[MicroBatch]:
    """Cut a batch, in order, into micro-batches for which the model computes at most `max_tokens` positions.

    A group stays whole if it fits; a larger one is split by completions, and its prompt is computed once in each
    micro-batch. One completion with its prompt is never cut; if it is too long, it is a micro-batch of its own. Sums
    over completions, and their gradients, do not depend on how a batch is cut.
    """
    cuts: list[list[tuple[int, int]]] = []  # (p, g): completion g of prompt p
    for p, ids_G_T in enumerate(batch.ids_P_G_T):
        group = [(p, g) for g in range(len(ids_G_T))]
        for unit in [group] if count_positions(batch, group, layout) <= max_tokens else [[one] for one in group]:
            if cuts and count_positions(batch, [*cuts[-1], *unit], layout) <= max_tokens:
                cuts[-1] += unit
            else:
                cuts.append(unit)
    first_P = [0, *accumulate(len(ids_G_T) for ids_G_T in batch.ids_P_G_T)]
    return [
        MicroBatch(_select(batch, cut), [first_P[p] + g for p, g in cut], count_positions(batch, cut, layout))
        for cut in cuts
    ]


def count_positions(batch: CompletionBatch, members: Sequence[tuple[int, int]], layout: Layout) -> int:
    """Return how many positions the language model computes for some completions.

    packed: each prompt once, and the completions. rows: completions × (longest prompt + longest completion).

    Args:
        members: (p, g) for completion g of prompt p.
    """
    prompts = {p: len(batch.prompts[p].ids_L) for p, _ in members}
    completions = [len(batch.ids_P_G_T[p][g]) for p, g in members]
    if layout == "packed":
        return sum(prompts.values()) + sum(completions)
    return len(members) * (max(prompts.values()) + max(completions))


def _select(batch: CompletionBatch, members: Sequence[tuple[int, int]]) -> CompletionBatch:
    groups = [(p, [g for _, g in own]) for p, own in groupby(members, key=itemgetter(0))]

    def chosen(values_P_G: Sequence[Sequence[V]]) -> list[list[V]]:
        return [[values_P_G[p][g] for g in own] for p, own in groups]

    return CompletionBatch(
        [batch.prompts[p] for p, _ in groups],
        chosen(batch.ids_P_G_T),
        batch.sampled_P_G_T and chosen(batch.sampled_P_G_T),
        batch.logprobs_P_G_T and chosen(batch.logprobs_P_G_T),
    )
