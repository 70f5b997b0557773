"""The base of all tiny checkpoints: their size, a tokenizer learned from a corpus, and the writer of their folder."""

# pyright: standard

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, PreTrainedTokenizerFast
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
"""Texts that are one token each; the tokens are not special, so that decoding keeps them."""


@dataclass(frozen=True)
class TinySize:
    """Shape of a tiny model; the default has about 0.4 million parameters.

    `patch_size` None means the family's own. `initializer_range` 0.06 instead of 0.02 helps most to learn from random
    weights (docs/log.md).
    """

    hidden_size: int = 64
    num_hidden_layers: int = 3
    num_attention_heads: int = 4
    num_key_value_heads: int = 4
    vision_hidden_size: int = 64
    vision_depth: int = 2
    patch_size: int | None = None
    vocab_size: int = 400
    initializer_range: float = 0.06

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


@dataclass(frozen=True)
class Vocabulary:
    """The tokens and the chat template of a family.

    Attributes:
        special_tokens: special tokens in the order of their ids; decoding drops them.
        named_tokens: special tokens that processors look up by name, e.g. {"image_token": "<|image_pad|>"}.
        chat_template: an excerpt of the family's template, for turns with images.
        stop_tokens: tokens that end an answer; the first is the tokenizer's end-of-sequence token.
        pad_token: one of the special tokens.
        bos_token: the beginning-of-sequence token, if the family has one; the template writes it.
        tokenizer_class: name of the family's class in transformers, built from a vocabulary and merges; None for
            `PreTrainedTokenizerFast`.
        plain_tokens: texts that are one token each, which decoding keeps.
    """

    special_tokens: tuple[str, ...]
    named_tokens: Mapping[str, str]
    chat_template: str
    stop_tokens: tuple[str, ...]
    pad_token: str
    bos_token: str | None = None
    tokenizer_class: str | None = None
    plain_tokens: tuple[str, ...] = TAGS


@dataclass(frozen=True)
class TinyFamily:
    """The recipe for tiny checkpoints of one family.

    Attributes:
        vocabulary: its tokens and template.
        config: (tokenizer, size) → arguments of the family's config class.
        image_processor: size → contents of preprocessor_config.json.
        adjust: called with the new model, to set weights that the family initialises to zero.
    """

    vocabulary: Vocabulary
    config: Callable[[Any, TinySize], dict[str, Any]]
    image_processor: Callable[[TinySize], dict[str, Any]]
    adjust: Callable[[Any], None] = lambda model: None


def write_checkpoint(
    model_type: str, family: TinyFamily, folder: str | Path, corpus: Iterable[str], seed: int, size: TinySize
) -> Path:
    """Write a Hugging Face folder: config, random weights, generation config, tokenizer and image processor."""
    tokenizer = train_tokenizer(family.vocabulary, corpus, size.vocab_size)
    config = AutoConfig.for_model(model_type, **family.config(tokenizer, size))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(config)
        family.adjust(model)
    stop_ids = tokenizer.convert_tokens_to_ids(list(family.vocabulary.stop_tokens))
    model.generation_config.eos_token_id = stop_ids[0] if len(stop_ids) == 1 else stop_ids
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _write_image_processor(Path(folder), family.image_processor(size))
    return Path(folder)


def train_tokenizer(vocabulary: Vocabulary, corpus: Iterable[str], vocab_size: int) -> Any:
    """Learn a byte-level BPE of the family's tokenizer class, with separate digits, special tokens and template."""
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
    options = {
        "bos_token": vocabulary.bos_token,
        "eos_token": vocabulary.stop_tokens[0],
        "pad_token": vocabulary.pad_token,
        "unk_token": vocabulary.pad_token,
        # named special tokens survive a reload only as extra_special_tokens
        "extra_special_tokens": dict(vocabulary.named_tokens),
    }
    tokenizer = _build(vocabulary.tokenizer_class, bpe, options)
    tokenizer.add_tokens(list(vocabulary.special_tokens), special_tokens=True)
    tokenizer.add_tokens(list(vocabulary.plain_tokens))
    tokenizer.chat_template = vocabulary.chat_template
    return tokenizer


def text_sizes(tokenizer: Any, size: TinySize) -> dict[str, Any]:
    """Return the config arguments that the language models of most families share."""
    return {
        "vocab_size": (len(tokenizer) + 7) // 8 * 8,
        "hidden_size": size.hidden_size,
        "intermediate_size": size.hidden_size * 3,
        "num_hidden_layers": size.num_hidden_layers,
        "num_attention_heads": size.num_attention_heads,
        "num_key_value_heads": size.num_key_value_heads,
        "max_position_embeddings": 4096,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": size.initializer_range,
    }


def tile_edge(size: TinySize) -> int:
    """Side in pixels of one tile, for families whose vision part sees tiles: four patches."""
    return _tile_patch(size) * 4


def tile_vision_sizes(size: TinySize) -> dict[str, Any]:
    """Return the config arguments that the vision parts of families with tiles share."""
    return {
        "hidden_size": size.vision_hidden_size,
        "intermediate_size": size.vision_hidden_size * 2,
        "num_hidden_layers": size.vision_depth,
        "num_attention_heads": 4,
        "image_size": tile_edge(size),
        "patch_size": _tile_patch(size),
    }


def _tile_patch(size: TinySize) -> int:
    return size.patch_size or 14


def _build(tokenizer_class: str | None, bpe: Tokenizer, options: dict[str, Any]) -> Any:
    if tokenizer_class is None:
        return PreTrainedTokenizerFast(tokenizer_object=bpe, **options)
    learned = json.loads(bpe.to_str())["model"]
    merges = [tuple(merge) for merge in learned["merges"]]
    return getattr(transformers, tokenizer_class)(vocab=learned["vocab"], merges=merges, **options)


def _write_image_processor(folder: Path, settings: dict[str, Any]) -> None:
    """Write a plain preprocessor_config.json, so that AutoImageProcessor chooses the installed backend."""
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    AutoImageProcessor.from_pretrained(folder).save_pretrained(folder)
