"""Tiny LLaVA-OneVision: views of 56 pixels and 16 tokens, canvases of up to 4 tiles."""

from __future__ import annotations

from typing import Any

from vlm_r1.testing.common import TinyFamily, TinySize, Vocabulary, text_sizes, tile_edge, tile_vision_sizes

# An excerpt of LLaVA-OneVision's own template, for turns with images; images come first.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} "
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}<image>{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ '\\n' + part['text'] }}{% endfor %}"
    "{% endif %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

VOCABULARY = Vocabulary(
    special_tokens=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"),
    named_tokens={"image_token": "<image>", "video_token": "<video>"},
    chat_template=CHAT_TEMPLATE,
    stop_tokens=("<|im_end|>",),
    pad_token="<|endoftext|>",
    tokenizer_class="Qwen2Tokenizer",
)


def _config(tokenizer: Any, size: TinySize) -> dict[str, Any]:
    token = tokenizer.convert_tokens_to_ids
    return {
        "text_config": {"model_type": "qwen2", **text_sizes(tokenizer, size)},
        "vision_config": {
            "model_type": "siglip_vision_model",
            **tile_vision_sizes(size),
            "vision_use_head": False,
        },
        "image_token_index": token("<image>"),
        "video_token_index": token("<video>"),
        "image_grid_pinpoints": _canvases(size),
        "vision_aspect_ratio": "anyres_max_3",
        "tie_word_embeddings": True,
    }


def _image_processor(size: TinySize) -> dict[str, Any]:
    edge = tile_edge(size)
    return {
        "image_processor_type": "LlavaOnevisionImageProcessor",
        "size": {"height": edge, "width": edge},
        "image_grid_pinpoints": _canvases(size),
    }


def _canvases(size: TinySize) -> list[list[int]]:
    """[height, width] of each canvas, as in the family's settings."""
    edge = tile_edge(size)
    shapes = [(1, 1), (1, 2), (2, 1), (2, 2), (1, 4), (4, 1)]
    return [[rows * edge, columns * edge] for rows, columns in shapes]


LLAVA_ONEVISION = TinyFamily(VOCABULARY, _config, _image_processor)
