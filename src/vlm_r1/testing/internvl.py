"""Tiny InternVL: at most 4 tiles of 56 pixels and 4 tokens."""

from __future__ import annotations

from typing import Any

from vlm_r1.testing.common import TinyFamily, TinySize, Vocabulary, text_sizes, tile_edge, tile_vision_sizes

# An excerpt of InternVL3's own template, for system, user and assistant turns with images.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<IMG_CONTEXT>\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

VOCABULARY = Vocabulary(
    special_tokens=(
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<img>",
        "</img>",
        "<IMG_CONTEXT>",
        "<ref>",
        "</ref>",
        "<box>",
        "</box>",
        "<video>",
    ),
    named_tokens={
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    },
    chat_template=CHAT_TEMPLATE,
    stop_tokens=("<|im_end|>", "<|endoftext|>"),
    pad_token="<|endoftext|>",
    tokenizer_class="Qwen2Tokenizer",
)


def _config(tokenizer: Any, size: TinySize) -> dict[str, Any]:
    vision = tile_vision_sizes(size)
    return {
        "text_config": {"model_type": "qwen2", **text_sizes(tokenizer, size)},
        "vision_config": {
            **vision,
            "image_size": [vision["image_size"]] * 2,
            "patch_size": [vision["patch_size"]] * 2,
            "initializer_range": size.initializer_range,
        },
        "image_token_id": tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        "image_seq_length": 4,
        "downsample_ratio": 0.5,
        "tie_word_embeddings": True,
    }


def _image_processor(size: TinySize) -> dict[str, Any]:
    edge = tile_edge(size)
    return {
        "image_processor_type": "GotOcr2ImageProcessor",
        "size": {"height": edge, "width": edge},
        "crop_to_patches": False,  # as in the published checkpoints; the combined processor overrides it
        "min_patches": 1,
        "max_patches": 4,
    }


INTERNVL = TinyFamily(VOCABULARY, _config, _image_processor)
