"""Layout `packed`: all groups are in one row; each prompt is there once and its completions follow it.

Positions of a completion continue those of its prompt; attention keeps siblings and groups apart (`attention.py`).
"""

# pyright: standard

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import PreTrainedModel
from transformers.masking_utils import create_masks_for_generate

from vlm_r1.config.words import Layout, LayoutOption
from vlm_r1.errors import ConfigError
from vlm_r1.models.adapter import Adapter
from vlm_r1.policy.attention import PackedGroup, PackedLayout
from vlm_r1.policy.rows import as_forward_takes, pad_right
from vlm_r1.types import EncodedPrompt

Completions = Sequence[Sequence[Sequence[int]]]


def packed_hidden(
    model: PreTrainedModel, adapter: Adapter, prompts: Sequence[EncodedPrompt], ids_P_G_T: Completions
) -> torch.Tensor:
    """Return the hidden states that predict each completion token, (K, H), in the order of groups and tokens.

    Raises:
        RuntimeError: a layer did not use the packed attention; its result would be wrong.
    """
    groups = zip(prompts, ids_P_G_T, strict=True)
    layout = PackedLayout(tuple(PackedGroup(len(p.ids_L), tuple(len(ids) for ids in own)) for p, own in groups))
    ids_L = [token for p, own in zip(prompts, ids_P_G_T, strict=True) for ids in (p.ids_L, *own) for token in ids]
    backbone = adapter.backbone(model)
    text_config = adapter.unwrap(model).config.get_text_config()
    output = backbone(
        input_ids=torch.tensor([ids_L], device=model.device),
        attention_mask=_attention_mask(model, adapter, prompts, layout),
        position_ids=as_forward_takes(_positions(adapter.positions(model, prompts), layout)[:, None]),
        use_cache=False,
        shared_prefix=layout,
        **adapter.vision_arguments(adapter.image_features(model, prompts)),
    )
    if layout.served.indices != set(range(text_config.num_hidden_layers)):
        raise RuntimeError(
            f"packed attention reached layers {sorted(layout.served.indices)} of {text_config.num_hidden_layers}: "
            "this architecture does not hand it on; use training.layout rows"
        )
    return output.last_hidden_state[0, _predecessors(layout, model.device)]


def choose_layout(wanted: LayoutOption, text_config: Any, why_not_shared: str = "") -> tuple[Layout, str]:
    """Choose the layout for an architecture; returns it with a line that says why.

    Args:
        why_not_shared: why `auto` is `rows` even where the architecture allows sharing (`Adapter.why_not_shared`).

    Raises:
        ConfigError: packed is wanted, but it cannot be exact for this architecture.
    """
    obstacle = packing_obstacle(text_config)
    if wanted == "packed" and obstacle:
        raise ConfigError(f"training.layout packed cannot be exact for this model: {obstacle}. Use auto or rows")
    if obstacle:
        reason = f"this model cannot share a prompt exactly: {obstacle}"
    elif wanted == "rows":
        reason = "as training.layout says"
    else:
        reason = why_not_shared if wanted == "auto" else ""
    if reason:
        return "rows", f"layout rows: each prompt is computed again for each completion ({reason})"
    return "packed", "layout packed: each prompt and each image is computed once for all completions of a group"


def packing_obstacle(text_config: Any) -> str | None:
    """Return why a language model cannot share a prompt exactly in one row, or None if it can.

    >>> from transformers import Qwen2Config
    >>> packing_obstacle(Qwen2Config())
    """
    kinds = set(getattr(text_config, "layer_types", None) or ["full_attention"])
    if foreign := kinds - {"full_attention", "sliding_attention"}:
        return f"it has layers of {', '.join(sorted(foreign))}, whose state runs through siblings"
    # "vision": only tokens of images do, for which masks are made (`_attention_mask`)
    if getattr(text_config, "use_bidirectional_attention", None) not in (None, False, "vision"):
        return "its tokens see both ways"
    if getattr(text_config, "attn_logit_softcapping", None):
        return "it caps attention scores"
    if getattr(text_config, "attention_dropout", 0):
        return "it has attention dropout"
    return None


def _positions(prompts_P: Sequence[torch.Tensor], layout: PackedLayout) -> torch.Tensor:
    """Return the positions (A, L). Those of a completion continue from the largest of its prompt."""
    positions: list[torch.Tensor] = []
    for positions_AL, group in zip(prompts_P, layout.groups, strict=True):
        axes, device = len(positions_AL), positions_AL.device
        steps = torch.cat([torch.arange(length, device=device) for length in group.completions])
        positions += [positions_AL, (positions_AL.max() + 1 + steps).expand(axes, -1)]
    return torch.cat(positions, 1)


def _predecessors(layout: PackedLayout, device: torch.device) -> torch.Tensor:
    """Return the places in the row that predict completion tokens: the token before, or the last one of the prompt."""
    places: list[int] = []
    end = 0
    for group in layout.groups:
        end += group.prompt
        last = end - 1
        for length in group.completions:
            places += [last, *range(end, end + length - 1)]
            end += length
    return torch.tensor(places, device=device)


def _attention_mask(
    model: PreTrainedModel, adapter: Adapter, prompts: Sequence[EncodedPrompt], layout: PackedLayout
) -> Any:
    """Return a mask of ones, for which transformers builds none; or for each group the mask of its ordinary row.

    The second is needed if some layers have windows, or if tokens of an image attend to each other in both directions.
    """
    base = adapter.unwrap(model)
    text_config = base.config.get_text_config()
    prompts_PL, _ = pad_right([prompt.ids_L for prompt in prompts], adapter.pad_id, model.device)
    types = adapter.token_types(pad(prompts_PL, (0, layout.reach - prompts_PL.shape[1]), value=adapter.pad_id))
    if not types and "sliding_attention" not in (getattr(text_config, "layer_types", None) or ()):
        return torch.ones(1, layout.length, dtype=torch.long, device=model.device)
    make: Any = base.create_masks_for_generate if types else create_masks_for_generate
    rows = len(prompts) if types else 1  # without types of tokens, one mask serves all rows
    hidden = torch.empty(rows, layout.reach, 1, dtype=model.dtype, device=model.device)
    seen = torch.ones(rows, layout.reach, dtype=torch.long, device=model.device)
    masks = make(text_config, hidden, seen, None, None, **types)
    return {kind: None if mask is None else mask.expand(len(prompts), -1, -1, -1) for kind, mask in masks.items()}
