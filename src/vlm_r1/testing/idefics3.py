"""Tiny Idefics3 and SmolVLM: tiles of 56 pixels and 4 tokens, at most two along the longest edge."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vlm_r1.testing.common import TinyFamily, TinySize, Vocabulary, text_sizes, tile_edge, tile_vision_sizes

# An excerpt of SmolVLM's own template, for system, user and assistant turns with images.
CHAT_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}:{% else %}: {% endif %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)

VOCABULARY = Vocabulary(
    special_tokens=(
        "<|im_start|>",
        "<|im_end|>",
        "<fake_token_around_image>",
        "<image>",
        "<end_of_utterance>",
        "<global-img>",
        *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
    ),
    named_tokens={
        "image_token": "<image>",
        "fake_image_token": "<fake_token_around_image>",
        "global_image_token": "<global-img>",
        "end_of_utterance_token": "<end_of_utterance>",
    },
    chat_template=CHAT_TEMPLATE,
    stop_tokens=("<end_of_utterance>", "<|im_end|>"),
    pad_token="<|im_end|>",
    bos_token="<|im_start|>",
)


def _config(tokenizer: Any, size: TinySize) -> dict[str, Any]:
    return {
        "text_config": {"model_type": "llama", **text_sizes(tokenizer, size)},
        "vision_config": {
            **tile_vision_sizes(size),
            "initializer_range": size.initializer_range,
        },
        "scale_factor": 2,
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
        "tie_word_embeddings": True,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _image_processor(kind: str, size: TinySize) -> dict[str, Any]:
    tile = tile_edge(size)
    return {
        "image_processor_type": f"{kind}ImageProcessor",
        "size": {"longest_edge": tile * 2},
        "max_image_size": {"longest_edge": tile},
        "do_image_splitting": True,
    }


def _idefics3_processor(size: TinySize) -> dict[str, Any]:
    return _image_processor("Idefics3", size)


def _smolvlm_processor(size: TinySize) -> dict[str, Any]:
    return _image_processor("SmolVLM", size)


IDEFICS3 = TinyFamily(VOCABULARY, _config, _idefics3_processor)
SMOLVLM = replace(IDEFICS3, image_processor=_smolvlm_processor)
