"""Log-probabilities of completions: the one root module that trainers wrap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel

from vlm_r1.models.adapter import Adapter
from vlm_r1.policy.rows import pad_right, prompt_rows
from vlm_r1.types import EncodedPrompt


class CompletionBatch(NamedTuple):
    """Groups to score: `prompts[p]` with its completions `ids_P_G_T[p]`, ragged in G and T; no completion is empty."""

    prompts: Sequence[EncodedPrompt]
    ids_P_G_T: Sequence[Sequence[Sequence[int]]]


class TokenLogProbs(NamedTuple):
    """Per sampled token, rows in the order of groups and completions, padded on the right to the longest.

    `logprobs_NT`: natural log, float32 or wider, 0 on padding. `entropies_NT`: nats, no gradient, 0 on padding.
    `mask_NT`: True on tokens.
    """

    logprobs_NT: torch.Tensor
    entropies_NT: torch.Tensor
    mask_NT: torch.Tensor


class Policy(nn.Module):
    """Owns the model; its forward is the only way to its log-probabilities, so that the hooks of wrappers fire.

    Every prompt's images are encoded once; its text is repeated for each completion (layout `rows`). Logits exist for
    completion positions only.
    """

    def __init__(self, model: PreTrainedModel, adapter: Adapter, temperature: float = 1.0):
        super().__init__()
        self.model = model
        self.adapter = adapter
        self.temperature = temperature

    def forward(self, batch: CompletionBatch) -> TokenLogProbs:
        """Score all completions of the batch under softmax(logits / temperature), placeholder tokens excluded."""
        repeats = [len(ids_G_T) for ids_G_T in batch.ids_P_G_T]
        rows = prompt_rows(self.model, self.adapter, batch.prompts)
        completions_N_T = [ids_T for ids_G_T in batch.ids_P_G_T for ids_T in ids_G_T]
        ids_NT, mask_NT = pad_right(completions_N_T, self.adapter.pad_id, rows.ids_PL.device)
        times_P = torch.tensor(repeats, device=rows.ids_PL.device)
        steps_T = torch.arange(ids_NT.shape[1], device=rows.ids_PL.device)
        positions_ANT = (rows.next_P.repeat_interleave(times_P)[:, None] + steps_T).expand(
            len(rows.positions_APL), -1, -1
        )
        features = self.adapter.encode_images(self.model, batch.prompts)
        output = self.model(
            input_ids=torch.cat([rows.ids_PL.repeat_interleave(times_P, 0), ids_NT], 1),
            attention_mask=torch.cat([rows.mask_PL.repeat_interleave(times_P, 0), mask_NT], 1),
            position_ids=torch.cat([rows.positions_APL.repeat_interleave(times_P, 1), positions_ANT], 2),
            use_cache=False,
            logits_to_keep=ids_NT.shape[1] + 1,
            **self.adapter.vision_arguments(features, batch.prompts, repeats),
        )
        logits_NTV = output.logits[:, :-1]
        logprobs_NT, entropies_NT = gather_logprobs(logits_NTV, ids_NT, self.temperature, self.adapter.banned_ids())
        padding_NT = mask_NT == 0
        return TokenLogProbs(
            logprobs_NT.masked_fill(padding_NT, 0), entropies_NT.masked_fill(padding_NT, 0), ~padding_NT
        )


def tempered_logprobs(logits: torch.Tensor, temperature: float, banned_ids: Sequence[int]) -> torch.Tensor:
    """log softmax(logits / temperature) over the vocabulary (last axis) without the banned tokens, in float32 or wider.

    The distribution that is sampled from when no further filter is set, and the one that is trained.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    banned = torch.tensor(banned_ids, dtype=torch.long, device=logits.device)
    return logits.index_fill(-1, banned, float("-inf")).log_softmax(-1)


def gather_logprobs(
    logits_NTV: torch.Tensor, ids_NT: torch.Tensor, temperature: float, banned_ids: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(log-probabilities of `ids_NT`, entropies) per position; entropies carry no gradient."""
    logprobs_NTV = tempered_logprobs(logits_NTV, temperature, banned_ids)
    with torch.no_grad():
        entropies_NT = torch.special.entr(logprobs_NTV.exp()).sum(-1)
    return logprobs_NTV.gather(-1, ids_NT[..., None])[..., 0], entropies_NT
