"""Tiny Gemma 4. It has what small and large models have: embeddings in every layer, reused keys, windows, both ways."""

from __future__ import annotations

from typing import Any

from vlm_r1.testing.common import TinyFamily, TinySize, Vocabulary, text_sizes

# An excerpt in the manner of Gemma 4's own template, for user and assistant turns with images.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|turn>{{ message['role'] | replace('assistant', 'model') }}\n"
    "{% if message['content'] is string %}{{ message['content'] | trim }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|image|>"
    "{% else %}{{ part['text'] | trim }}{% endif %}{% endfor %}{% endif %}<turn|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn>model\n{% endif %}"
)

_NAMED = {
    "image_token": "<|image|>",
    "boi_token": "<|image>",
    "eoi_token": "<image|>",
    "audio_token": "<|audio|>",
    "boa_token": "<|audio>",
    "eoa_token": "<audio|>",
}

VOCABULARY = Vocabulary(
    special_tokens=("<pad>", "<eos>", "<bos>", "<|turn>", "<turn|>", *_NAMED.values(), "<|video|>"),
    named_tokens=_NAMED,
    chat_template=CHAT_TEMPLATE,
    stop_tokens=("<eos>", "<turn|>"),
    pad_token="<pad>",
    bos_token="<bos>",
)

PATCH = 2
"""Side of a patch in pixels. An image fills its budget of 70 tokens whatever its size, so small patches are quick."""


def _config(tokenizer: Any, size: TinySize) -> dict[str, Any]:
    token = tokenizer.convert_tokens_to_ids
    text, layers = text_sizes(tokenizer, size), size.num_hidden_layers
    return {
        "text_config": {
            **text,
            "bos_token_id": tokenizer.bos_token_id,
            "head_dim": size.head_dim,
            "global_head_dim": size.head_dim * 2,
            "sliding_window": 32,
            "layer_types": ["sliding_attention"] * (layers - 2) + ["full_attention"] * 2,
            "num_kv_shared_layers": 1,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": text["vocab_size"],
            "use_bidirectional_attention": "vision",
            "final_logit_softcapping": 3.0,
        },
        "vision_config": {
            "hidden_size": size.vision_hidden_size,
            "intermediate_size": size.vision_hidden_size * 2,
            "num_hidden_layers": size.vision_depth,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "head_dim": size.vision_hidden_size // 4,
            "patch_size": PATCH,
            "pooling_kernel_size": 3,
            "position_embedding_size": 256,
            "initializer_range": size.initializer_range,
        },
        "audio_config": None,
        **{f"{name}_id": token(_NAMED[name]) for name in ("image_token", "boi_token", "eoi_token", "audio_token")},
        "boa_token_id": token("<|audio>"),
        "eoa_token_index": token("<audio|>"),
        "video_token_id": token("<|video|>"),
        "initializer_range": size.initializer_range,
    }


def _image_processor(size: TinySize) -> dict[str, Any]:
    own = {"patch_size": PATCH, "pooling_kernel_size": 3, "max_soft_tokens": 70}
    return {"image_processor_type": "Gemma4ImageProcessor", **own}


def _draw_places(model: Any) -> None:
    """Draw the embeddings of places, which a new Gemma 4 has all alike."""
    model.model.vision_tower.patch_embedder.position_embedding_table.data.normal_(std=0.2)


GEMMA4 = TinyFamily(VOCABULARY, _config, _image_processor, _draw_places)
