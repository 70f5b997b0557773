"""Layout `rows`: each completion with its prompt is a padded row of one tensor.

A row is [left padding | prompt | completion | right padding]. All prompts end in the same column, so that completion
positions are one slice for every row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from vlm_r1.models.adapter import Adapter
from vlm_r1.types import EncodedPrompt


@dataclass(frozen=True)
class PromptRows:
    """Left-padded prompts: ids, mask (1 on tokens), positions, and the first position after each prompt."""

    ids_PL: torch.Tensor
    mask_PL: torch.Tensor
    positions_APL: torch.Tensor
    next_P: torch.Tensor


def prompt_rows(model: PreTrainedModel, adapter: Adapter, prompts: Sequence[EncodedPrompt]) -> PromptRows:
    """Pad prompts on the left; padding has position 0 and is masked."""
    length = max(len(p.ids_L) for p in prompts)
    positions_P = adapter.positions(model, prompts)
    ids_PL = torch.full((len(prompts), length), adapter.pad_id)
    mask_PL = torch.zeros_like(ids_PL)
    positions_APL = torch.zeros((len(positions_P[0]), len(prompts), length), dtype=torch.long)
    for row, (prompt, positions) in enumerate(zip(prompts, positions_P, strict=True)):
        own = slice(length - len(prompt.ids_L), None)
        ids_PL[row, own] = torch.tensor(prompt.ids_L)
        mask_PL[row, own] = 1
        positions_APL[:, row, own] = positions.cpu()
    next_P = torch.stack([positions.max() + 1 for positions in positions_P])
    device = model.device
    return PromptRows(ids_PL.to(device), mask_PL.to(device), positions_APL.to(device), next_P.to(device))


def as_forward_takes(positions_ANL: torch.Tensor) -> torch.Tensor:
    """Return position ids (A, N, L) as a model's forward wants them: (N, L) if there is only one axis."""
    return positions_ANL if len(positions_ANL) > 1 else positions_ANL[0]


def pad_right(ids_N_T: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad ragged token ids on the right; returns (ids_NT, mask_NT)."""
    length = max(len(ids) for ids in ids_N_T)
    ids_NT = torch.tensor([[*ids, *[pad_id] * (length - len(ids))] for ids in ids_N_T])
    lengths_N1 = torch.tensor([[len(ids)] for ids in ids_N_T])
    return ids_NT.to(device), (torch.arange(length) < lengths_N1).long().to(device)


def rows_hidden(
    model: PreTrainedModel,
    adapter: Adapter,
    prompts: Sequence[EncodedPrompt],
    ids_P_G_T: Sequence[Sequence[Sequence[int]]],
) -> torch.Tensor:
    """Return the hidden states that predict each completion token, (K, H), in the order of groups and tokens.

    The text of a prompt is repeated for each of its completions; its images are encoded once.
    """
    rows = prompt_rows(model, adapter, prompts)
    repeats = [len(ids_G_T) for ids_G_T in ids_P_G_T]
    ids_NT, mask_NT = pad_right([ids_T for ids_G_T in ids_P_G_T for ids_T in ids_G_T], adapter.pad_id, model.device)
    times_P = torch.tensor(repeats, device=model.device)
    steps_T = torch.arange(ids_NT.shape[1], device=model.device)
    positions_NT = rows.next_P.repeat_interleave(times_P)[:, None] + steps_T
    positions_APL = rows.positions_APL.repeat_interleave(times_P, 1)
    features = adapter.image_features(model, prompts)
    repeated = [own for own, times in zip(features, repeats, strict=True) for _ in range(times)]
    ids_NL = torch.cat([rows.ids_PL.repeat_interleave(times_P, 0), ids_NT], 1)
    positions_ANL = torch.cat([positions_APL, positions_NT.expand(len(positions_APL), -1, -1)], 2)
    output = adapter.backbone(model)(
        input_ids=ids_NL,
        attention_mask=torch.cat([rows.mask_PL.repeat_interleave(times_P, 0), mask_NT], 1),
        position_ids=as_forward_takes(positions_ANL),
        use_cache=False,
        **adapter.token_types(ids_NL),
        **adapter.vision_arguments(repeated),
    )
    first = rows.ids_PL.shape[1] - 1  # the last token of a prompt predicts the first of a completion
    return output.last_hidden_state[:, first:-1][mask_NT.bool()]
