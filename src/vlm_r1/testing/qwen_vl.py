"""Tiny Qwen2-VL, Qwen2.5-VL, Qwen3-VL, Qwen3.5 and their mixtures of experts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vlm_r1.testing.common import TinyFamily, TinySize, Vocabulary, text_sizes

# An excerpt of Qwen2.5-VL's own template, for system, user and assistant turns with images.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

VOCABULARY = Vocabulary(
    special_tokens=(
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
    ),
    named_tokens={
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_bos_token": "<|vision_start|>",
        "vision_eos_token": "<|vision_end|>",
    },
    chat_template=CHAT_TEMPLATE,
    stop_tokens=("<|im_end|>",),
    pad_token="<|endoftext|>",
    tokenizer_class="Qwen2Tokenizer",
)

# Qwen3.5 opens the thought itself.
THINKING_VOCABULARY = replace(
    VOCABULARY,
    chat_template=CHAT_TEMPLATE.replace("assistant\n", "assistant\n<think>\n"),
    tokenizer_class="Qwen3_5Tokenizer",
)


def _qwen2_vl(tokenizer: Any, size: TinySize) -> dict[str, Any]:
    vision = {
        "depth": size.vision_depth,
        "embed_dim": size.vision_hidden_size,
        "hidden_size": size.hidden_size,
        "mlp_ratio": 2,
        **_patches(size, 14),
    }
    return _config(tokenizer, size, _text(tokenizer, size), vision)


def _qwen2_5_vl(tokenizer: Any, size: TinySize) -> dict[str, Any]:
    patches = _patches(size, 14)
    vision = {
        **_vision(size),
        **patches,
        "window_size": patches["patch_size"] * 8,
        "fullatt_block_indexes": list(range(size.vision_depth)),
    }
    return _config(tokenizer, size, _text(tokenizer, size), vision)


def _qwen3_vl(tokenizer: Any, size: TinySize) -> dict[str, Any]:
    vision = {**_qwen3_vision(size), "deepstack_visual_indexes": list(range(size.vision_depth))[:2]}
    return _config(tokenizer, size, _interleaved(_text(tokenizer, size), size), vision)


def _qwen3_vl_moe(tokenizer: Any, size: TinySize) -> dict[str, Any]:
    config = _qwen3_vl(tokenizer, size)
    config["text_config"] |= _experts(size) | {"tie_word_embeddings": True}
    return config


def _qwen3_5(tokenizer: Any, size: TinySize) -> dict[str, Any]:
    text = _interleaved(_text(tokenizer, size), size)
    text["rope_parameters"]["partial_rotary_factor"] = 1.0  # a quarter of a tiny head is too small for three axes
    layers = size.num_hidden_layers
    text |= {
        "layer_types": ["linear_attention"] * (layers - 1) + ["full_attention"],
        "linear_key_head_dim": size.head_dim,
        "linear_value_head_dim": size.head_dim,
        "linear_num_key_heads": size.num_key_value_heads,
        "linear_num_value_heads": size.num_attention_heads,
    }
    return _config(tokenizer, size, text, _qwen3_vision(size))


def _qwen3_5_moe(tokenizer: Any, size: TinySize) -> dict[str, Any]:
    config = _qwen3_5(tokenizer, size)
    config["text_config"] |= _experts(size) | {"shared_expert_intermediate_size": size.hidden_size}
    return config


def _config(tokenizer: Any, size: TinySize, text: dict[str, Any], vision: dict[str, Any]) -> dict[str, Any]:
    token = tokenizer.convert_tokens_to_ids
    return {
        "text_config": text,
        "vision_config": {"num_heads": 4, "initializer_range": size.initializer_range, **vision},
        "image_token_id": token("<|image_pad|>"),
        "video_token_id": token("<|video_pad|>"),
        "vision_start_token_id": token("<|vision_start|>"),
        "vision_end_token_id": token("<|vision_end|>"),
        "tie_word_embeddings": True,
    }


def _text(tokenizer: Any, size: TinySize) -> dict[str, Any]:
    rotary_pairs = size.head_dim // 2
    height = width = rotary_pairs * 3 // 8  # the family's proportions: 16, 24, 24 of 64
    rope = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [rotary_pairs - height - width, height, width],
    }
    return {**text_sizes(tokenizer, size), "rope_parameters": rope}


def _interleaved(text: dict[str, Any], size: TinySize) -> dict[str, Any]:
    """Qwen3: the frequencies of the three axes alternate, and heads need not add up to the hidden size."""
    rotary_pairs = size.head_dim // 2
    height = width = rotary_pairs * 5 // 16  # 24, 20, 20 of 64
    sections = [rotary_pairs - height - width, height, width]
    rope = {**text["rope_parameters"], "mrope_section": sections, "mrope_interleaved": True}
    return {**text, "rope_parameters": rope, "head_dim": size.head_dim}


def _experts(size: TinySize) -> dict[str, Any]:
    # no square matrices, since transformers distinguishes two ways of storing experts by their shapes
    return {"moe_intermediate_size": size.hidden_size * 3 // 4, "num_experts": 4, "num_experts_per_tok": 2}


def _vision(size: TinySize) -> dict[str, Any]:
    return {
        "depth": size.vision_depth,
        "hidden_size": size.vision_hidden_size,
        "intermediate_size": size.vision_hidden_size * 2,
        "out_hidden_size": size.hidden_size,
    }


def _qwen3_vision(size: TinySize) -> dict[str, Any]:
    return {**_vision(size), **_patches(size, 16), "num_position_embeddings": 64}


def _patches(size: TinySize, patch_size: int) -> dict[str, int]:
    return {"patch_size": size.patch_size or patch_size, "spatial_merge_size": 2, "temporal_patch_size": 2}


def _image_processor(patch_size: int, size: TinySize) -> dict[str, Any]:
    patch_size = size.patch_size or patch_size
    factor = patch_size * 2
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": patch_size,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "size": {"shortest_edge": 2 * factor * 2 * factor, "longest_edge": 64 * factor * factor},
    }


def _image_processor_14(size: TinySize) -> dict[str, Any]:
    return _image_processor(14, size)


def _image_processor_16(size: TinySize) -> dict[str, Any]:
    return _image_processor(16, size)


QWEN2_VL = TinyFamily(VOCABULARY, _qwen2_vl, _image_processor_14)
QWEN2_5_VL = TinyFamily(VOCABULARY, _qwen2_5_vl, _image_processor_14)
QWEN3_VL = TinyFamily(VOCABULARY, _qwen3_vl, _image_processor_16)
QWEN3_VL_MOE = TinyFamily(VOCABULARY, _qwen3_vl_moe, _image_processor_16)
QWEN3_5 = TinyFamily(THINKING_VOCABULARY, _qwen3_5, _image_processor_16)
QWEN3_5_MOE = TinyFamily(THINKING_VOCABULARY, _qwen3_5_moe, _image_processor_16)
