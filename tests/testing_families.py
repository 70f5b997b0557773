"""What tests of all model families share: their names, a small size, prompts of every kind, and the stock model.

The fixtures `family_checkpoint(model_type)`, `family_adapter(model_type)` and `family_model64(model_type)` are in
conftest.py.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image

from vlm_r1.models.adapter import Adapter
from vlm_r1.testing import TINY, TinyFamily, TinySize, Vocabulary, text_sizes, write_checkpoint, write_tiny
from vlm_r1.types import BoxFormat, EncodedPrompt, Prompt

FAMILIES = tuple(sorted(TINY))
"""Every family with a tiny checkpoint: `@pytest.mark.parametrize("family", FAMILIES)`."""

GENERIC = ("aya_vision", "llava", "llava_next")
"""Model types without an adapter of their own, which the generic one suits."""

SIZE = TinySize(num_key_value_heads=2, initializer_range=0.1)
"""Fewer key than query heads, as in the real models; weights large enough for lively logits."""

KINDS = ("one", "wide", "several", "none")
"""Of `family_prompts`."""


def picture_of(width: int, height: int, seed: int = 0) -> Image.Image:
    """A noise image."""
    noise = torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(noise.to(torch.uint8).numpy())


def random_sizes(least: int, count: int) -> list[tuple[int, int]]:
    """Log-uniform sides from `least` to 600 px; the first few of many are the same."""
    draws = random.Random(0)

    def side() -> int:
        return int(least * (600 / least) ** draws.random())

    return [(side(), side()) for _ in range(count)]


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


# Model types without an adapter ---------------------------------------------------------------------------------------


VOCABULARY = Vocabulary(
    special_tokens=("<pad>", "</s>", "<s>", "<image>"),
    named_tokens={"image_token": "<image>"},
    chat_template="{% for message in messages %}USER: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %} ASSISTANT:"
    "{% endfor %}",
    stop_tokens=("</s>",),
    pad_token="<pad>",
    bos_token="<s>",
)
CANVASES = [[56, 112], [112, 56], [112, 112]]
VISION = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 56,
    "patch_size": 14,
}
SQUARE = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
OF_CLIP = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}


class Outsider(NamedTuple):
    """A model type in small: parts of its config, preprocessor_config.json and processor_config.json."""

    text: Mapping[str, Any]
    vision: Mapping[str, Any]
    config: Mapping[str, Any]
    image_processor: Mapping[str, Any]
    processor: Mapping[str, Any]
    vocabulary: Vocabulary = VOCABULARY
    placeholder: str = "<image>"


OF_COHERE = replace(
    VOCABULARY,
    special_tokens=(*VOCABULARY.special_tokens, "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>"),
    plain_tokens=(*VOCABULARY.plain_tokens, "TILE_1", "TILE_2", "TILE_GLOBAL", "<|IMG_LINE_BREAK|>"),
)

OUTSIDERS = {
    "llava": Outsider(
        {"model_type": "llama"},
        {"model_type": "clip_vision_model", "projection_dim": 64},
        {},
        {"image_processor_type": "CLIPImageProcessor", **SQUARE},
        {"processor_class": "LlavaProcessor", **OF_CLIP},
    ),
    "llava_next": Outsider(
        {"model_type": "llama"},
        {"model_type": "clip_vision_model", "projection_dim": 64},
        {"image_grid_pinpoints": CANVASES},
        {"image_processor_type": "LlavaNextImageProcessor", "image_grid_pinpoints": CANVASES, **SQUARE},
        {"processor_class": "LlavaNextProcessor", **OF_CLIP},
    ),
    "paligemma": Outsider(
        {"model_type": "gemma", "head_dim": 16},
        {"model_type": "siglip_vision_model", "vision_use_head": False},
        {"projection_dim": 64},
        {
            "image_processor_type": "SiglipImageProcessor",
            "size": {"height": 56, "width": 56},
            "image_seq_length": 16,
        },
        {"processor_class": "PaliGemmaProcessor"},
    ),
    "aya_vision": Outsider(
        {"model_type": "cohere2", "logit_scale": 0.25},
        {"model_type": "siglip_vision_model"},
        {},
        {"image_processor_type": "GotOcr2ImageProcessor", "size": {"height": 56, "width": 56}},
        {"processor_class": "AyaVisionProcessor", "patch_size": 28, "img_size": 56},
        OF_COHERE,
        "<|IMG_PATCH|>",
    ),
}


BOX_FORMATS = dict.fromkeys(OUTSIDERS, BoxFormat.NORM_1)
"""What has to be said, because no adapter says it."""


def write_family(model_type: str, folder: Path, corpus: Iterable[str]) -> None:
    """A tiny random checkpoint of any model type that tests know."""
    if model_type in TINY:
        write_tiny(model_type, folder, corpus, seed=1, size=SIZE)
        return
    outsider = OUTSIDERS[model_type]

    def config(tokenizer: Any, size: TinySize) -> dict[str, Any]:
        return {
            "text_config": {**text_sizes(tokenizer, size), **outsider.text},
            "vision_config": {**VISION, **outsider.vision},
            "image_token_index": tokenizer.convert_tokens_to_ids(outsider.placeholder),
            **outsider.config,
        }

    family = TinyFamily(outsider.vocabulary, config, lambda size: dict(outsider.image_processor))
    write_checkpoint(model_type, family, folder, corpus, seed=1, size=SIZE)
    (folder / "processor_config.json").write_text(json.dumps(outsider.processor), encoding="utf-8")
