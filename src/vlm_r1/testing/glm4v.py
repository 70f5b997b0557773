"""Tiny GLM-4.1V, GLM-4.5V, GLM-4.6V (its small and its large model) and GLM-GA."""

from __future__ import annotations

from functools import partial
from typing import Any

from vlm_r1.testing.common import TinyFamily, TinySize, Vocabulary, text_sizes

# An excerpt of GLM-4.1V's own template, for system, user and assistant turns with images.
CHAT_TEMPLATE = (
    "[gMASK]<sop>{% for message in messages %}<|{{ message['role'] }}|>\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|begin_of_image|><|image|><|end_of_image|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)

VOCABULARY = Vocabulary(
    special_tokens=(
        "<|endoftext|>",
        "[gMASK]",
        "<sop>",
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|observation|>",
        "<|begin_of_image|>",
        "<|end_of_image|>",
        "<|begin_of_video|>",
        "<|end_of_video|>",
        "<|image|>",
        "<|video|>",
        "<|begin_of_box|>",
        "<|end_of_box|>",
    ),
    named_tokens={"image_token": "<|image|>", "video_token": "<|video|>"},
    chat_template=CHAT_TEMPLATE,
    stop_tokens=("<|endoftext|>", "<|user|>", "<|observation|>"),
    pad_token="<|endoftext|>",
)


def _glm4v(tokenizer: Any, size: TinySize) -> dict[str, Any]:
    token = tokenizer.convert_tokens_to_ids
    patch_size = size.patch_size or 14
    rotary_pairs = size.head_dim // 4  # since half of a head is rotated
    height = width = rotary_pairs * 3 // 8  # the family's proportions: 8, 12, 12 of 32
    rope = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
        "mrope_section": [rotary_pairs - height - width, height, width],
    }
    return {
        "text_config": {**text_sizes(tokenizer, size), "rope_parameters": rope},
        "vision_config": {
            "depth": size.vision_depth,
            "hidden_size": size.vision_hidden_size,
            "num_heads": 4,
            "intermediate_size": size.hidden_size * 2,
            "out_hidden_size": size.hidden_size,
            "image_size": patch_size * 8,
            "patch_size": patch_size,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "initializer_range": size.initializer_range,
        },
        "image_token_id": token("<|image|>"),
        "video_token_id": token("<|video|>"),
        "image_start_token_id": token("<|begin_of_image|>"),
        "image_end_token_id": token("<|end_of_image|>"),
        "video_start_token_id": token("<|begin_of_video|>"),
        "video_end_token_id": token("<|end_of_video|>"),
        "tie_word_embeddings": True,
    }


def _glm4v_moe(tokenizer: Any, size: TinySize) -> dict[str, Any]:
    config = _glm4v(tokenizer, size)
    config["text_config"] |= {
        "moe_intermediate_size": size.hidden_size * 3 // 4,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
    }
    return config


def _glm46v(tokenizer: Any, size: TinySize) -> dict[str, Any]:
    """GLM-4.6V is a mixture of experts; its small model, Flash, is dense. One class has both as parts by their type."""
    config = _glm4v_moe(tokenizer, size)
    config["text_config"]["model_type"] = "glm4v_moe_text"
    config["vision_config"]["model_type"] = "glm4v_moe_vision"
    return config


def _image_processor(name: str, size: TinySize) -> dict[str, Any]:
    patch_size = size.patch_size or 14
    area = (patch_size * 2) ** 2
    return {
        "image_processor_type": name,
        "patch_size": patch_size,
        "merge_size": 2,
        "temporal_patch_size": 2,
        # of the two equal frames of an image together
        "size": {"shortest_edge": 2 * 4 * area, "longest_edge": 2 * 64 * area},
    }


GLM4V = TinyFamily(VOCABULARY, _glm4v, partial(_image_processor, "Glm4vImageProcessor"))
GLM4V_MOE = TinyFamily(VOCABULARY, _glm4v_moe, partial(_image_processor, "Glm4vImageProcessor"))
GLM46V = TinyFamily(VOCABULARY, _glm46v, partial(_image_processor, "Glm46VImageProcessor"))
GLMGA = TinyFamily(VOCABULARY, _glm4v, partial(_image_processor, "GlmgaImageProcessor"))
