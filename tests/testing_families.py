"""What tests of all model families share: their names, a small size, prompts of every kind, and the stock model.

The fixtures `family_checkpoint(model_type)`, `family_adapter(model_type)` and `family_model64(model_type)` are in
conftest.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from vlm_r1.models.adapter import Adapter
from vlm_r1.models.tiny import TINY, TinySize
from vlm_r1.types import EncodedPrompt, Prompt

FAMILIES = tuple(sorted(TINY))
"""Every family with a tiny checkpoint: `@pytest.mark.parametrize("family", FAMILIES)`."""

SIZE = TinySize(num_key_value_heads=2, initializer_range=0.1)
"""Fewer key than query heads, as in the real models; weights large enough for lively logits."""

KINDS = ("one", "wide", "several", "none")
"""Of `family_prompts`."""


def picture_of(width: int, height: int, seed: int = 0) -> Image.Image:
    """A noise image."""
    noise = torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(noise.to(torch.uint8).numpy())


def encode(adapter: Adapter, text: str, images: Sequence[Image.Image]) -> EncodedPrompt:
    """A prompt with one `<image>` for each image."""
    return adapter.encode(Prompt(text, tuple(f"{n}.png" for n in range(len(images)))), list(images))


def family_prompts(adapter: Adapter) -> dict[str, EncodedPrompt]:
    """Encoded prompts of every kind: one image, another size, several images, none; `twin` is `one` by another image
    of the same size."""
    texts = ("<image>the small red circle", "<image>the large blue square left of the green triangle")
    return {
        "one": encode(adapter, texts[0], [picture_of(56, 56)]),
        "wide": encode(adapter, texts[1], [picture_of(112, 60, 1)]),
        "several": encode(
            adapter, "before <image> and after <image>: the red circle", [picture_of(84, 56, 2), picture_of(56, 84, 3)]
        ),
        "none": encode(adapter, "the thinking process of the region", []),
        "twin": encode(adapter, texts[0], [picture_of(56, 56, 9)]),
    }


def stock_arguments(adapter: Adapter, prompt: EncodedPrompt, completion: Sequence[int] = ()) -> dict[str, Any]:
    """Arguments of the stock model's `forward` and `generate` for one prompt, as its own processor would make them."""
    ids_1L = torch.tensor([[*prompt.ids_L, *completion]])
    arguments: dict[str, Any] = {"input_ids": ids_1L, "attention_mask": torch.ones_like(ids_1L), **prompt.vision}
    if "image_grid_thw" in prompt.vision:
        arguments["mm_token_type_ids"] = (ids_1L == adapter.placeholder_id).int()
    return arguments | adapter.token_types(ids_1L)
