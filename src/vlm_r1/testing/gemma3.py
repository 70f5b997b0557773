"""Tiny Gemma 3: images of 56 pixels and 4 tokens, windows of 32 tokens in all layers but the last."""

from __future__ import annotations

from typing import Any

from vlm_r1.testing.common import TinyFamily, TinySize, Vocabulary, text_sizes, tile_edge, tile_vision_sizes

# An excerpt of Gemma 3's own template, for turns with images; a system message begins the user's first turn.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% set ns = namespace(system='') %}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{% set ns.system = message['content'][0]['text'] + '\n\n' %}"
    "{% else %}<start_of_turn>{{ message['role'] | replace('assistant', 'model') }}\n{{ ns.system }}"
    "{% set ns.system = '' %}{% if message['content'] is string %}{{ message['content'] | trim }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<start_of_image>"
    "{% else %}{{ part['text'] | trim }}{% endif %}{% endfor %}{% endif %}<end_of_turn>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)

VOCABULARY = Vocabulary(
    special_tokens=(
        "<pad>",
        "<eos>",
        "<bos>",
        "<start_of_turn>",
        "<end_of_turn>",
        "<start_of_image>",
        "<end_of_image>",
        "<image_soft_token>",
    ),
    named_tokens={
        "image_token": "<image_soft_token>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
    },
    chat_template=CHAT_TEMPLATE,
    stop_tokens=("<eos>", "<end_of_turn>"),
    pad_token="<pad>",
    bos_token="<bos>",
)


def _config(tokenizer: Any, size: TinySize) -> dict[str, Any]:
    token = tokenizer.convert_tokens_to_ids
    layers = size.num_hidden_layers
    return {
        "text_config": {
            **text_sizes(tokenizer, size),
            "bos_token_id": tokenizer.bos_token_id,
            "head_dim": size.head_dim,
            "query_pre_attn_scalar": size.head_dim,
            "sliding_window": 32,
            "layer_types": ["sliding_attention"] * (layers - 1) + ["full_attention"],
        },
        "vision_config": {
            **tile_vision_sizes(size),
            "vision_use_head": False,
        },
        "mm_tokens_per_image": 4,
        "image_token_index": token("<image_soft_token>"),
        "boi_token_index": token("<start_of_image>"),
        "eoi_token_index": token("<end_of_image>"),
        "initializer_range": size.initializer_range,
    }


def _image_processor(size: TinySize) -> dict[str, Any]:
    edge = tile_edge(size)
    return {"image_processor_type": "Gemma3ImageProcessor", "size": {"height": edge, "width": edge}}


def _draw_projection(model: Any) -> None:
    """Draw the projection, since a new Gemma 3 projects every image to zeros and would not see it."""
    model.model.multi_modal_projector.mm_input_projection_weight.data.normal_(std=0.2)


GEMMA3 = TinyFamily(VOCABULARY, _config, _image_processor, _draw_projection)
