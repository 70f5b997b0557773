"""Tiny but real checkpoints: the transformers class with a small config and an own byte-level tokenizer.

For demos and tests on a CPU. Nothing in the package treats them specially: they are loaded like any other checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoImageProcessor, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
TAGS = ("<think>", "</think>", "<answer>", "</answer>")

# The part of Qwen2.5-VL's own template that concerns system, user and assistant turns with images.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class TinySize:
    """Shape of a tiny Qwen2.5-VL; the default has 0.4 million parameters.

    `initializer_range` 0.06 instead of 0.02 is the biggest lever for learning from nothing (docs/log.md).
    """

    hidden_size: int = 64
    num_hidden_layers: int = 3
    num_attention_heads: int = 4
    num_key_value_heads: int = 4
    vision_hidden_size: int = 64
    vision_depth: int = 2
    patch_size: int = 14
    vocab_size: int = 400
    initializer_range: float = 0.06


def train_tokenizer(corpus: Iterable[str], vocab_size: int) -> Qwen2Tokenizer:
    """A byte-level BPE of the family's tokenizer class, digits one by one, with its special tokens and template."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False, initial_alphabet=alphabet)
    )
    learned = json.loads(bpe.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(merge) for merge in learned["merges"]],  # type: ignore[arg-type]
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        # named special tokens survive a reload only as extra_special_tokens
        extra_special_tokens={
            "image_token": "<|image_pad|>",
            "video_token": "<|video_pad|>",
            "vision_bos_token": "<|vision_start|>",
            "vision_eos_token": "<|vision_end|>",
        },
    )
    tokenizer.add_tokens(list(SPECIAL_TOKENS), special_tokens=True)
    tokenizer.add_tokens(list(TAGS))
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def write_tiny_qwen2_5_vl(
    folder: str | Path, corpus: Iterable[str], seed: int = 0, size: TinySize | None = None
) -> Path:
    """Write a randomly initialised Qwen2.5-VL with tokenizer and image processor as a Hugging Face folder.

    Args:
        folder: created if missing.
        corpus: texts to learn the tokenizer from, e.g. the questions and answers of a data set.
        seed: of the weights; the global generator is left as it was.
    """
    size = size or TinySize()
    tokenizer = train_tokenizer(corpus, size.vocab_size)
    config = _config(tokenizer, size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
    assert model.generation_config is not None
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _write_image_processor(Path(folder), size)
    return Path(folder)


def _config(tokenizer: Qwen2Tokenizer, size: TinySize) -> Qwen2_5_VLConfig:
    token: Any = tokenizer.convert_tokens_to_ids
    rotary_pairs = size.hidden_size // size.num_attention_heads // 2
    height = width = rotary_pairs * 3 // 8  # the family's proportions: 16, 24, 24 of 64
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": (len(tokenizer) + 7) // 8 * 8,
            "hidden_size": size.hidden_size,
            "intermediate_size": size.hidden_size * 3,
            "num_hidden_layers": size.num_hidden_layers,
            "num_attention_heads": size.num_attention_heads,
            "num_key_value_heads": size.num_key_value_heads,
            "max_position_embeddings": 4096,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [rotary_pairs - height - width, height, width],
            },
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
            "initializer_range": size.initializer_range,
        },
        vision_config={
            "depth": size.vision_depth,
            "hidden_size": size.vision_hidden_size,
            "intermediate_size": size.vision_hidden_size * 2,
            "num_heads": 4,
            "patch_size": size.patch_size,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": size.patch_size * 8,
            "out_hidden_size": size.hidden_size,
            "fullatt_block_indexes": list(range(size.vision_depth)),
            "initializer_range": size.initializer_range,
        },
        image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
        tie_word_embeddings=True,
    )


def _write_image_processor(folder: Path, size: TinySize) -> None:
    """Through a plain preprocessor_config.json, so that AutoImageProcessor chooses the backend that is installed."""
    factor = size.patch_size * 2
    settings = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": size.patch_size,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "size": {"shortest_edge": 2 * factor * 2 * factor, "longest_edge": 64 * factor * factor},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    AutoImageProcessor.from_pretrained(folder).save_pretrained(folder)
