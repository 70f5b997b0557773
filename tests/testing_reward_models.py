"""Tiny reward models: a class of transformers with a score head and random weights, and a tokenizer with a template."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from testing_families import write_family
from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards.base import RewardInput
from vlm_r1.testing.common import Vocabulary, train_tokenizer
from vlm_r1.types import Record, Thinking

CORPUS = ["which one is the small red circle?", "the small red circle is left of the large blue square"] * 8

TEMPLATE = "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"

VOCABULARY = Vocabulary(
    special_tokens=("<|pad|>", "<|start|>", "<|end|>"),
    named_tokens={},
    chat_template=TEMPLATE,
    stop_tokens=("<|end|>",),
    pad_token="<|pad|>",
)


def tiny_tokenizer(template: str | None = TEMPLATE) -> Any:
    tokenizer = train_tokenizer(VOCABULARY, CORPUS, 300)
    tokenizer.chat_template = template
    return tokenizer


def write_reward_model(
    folder: Path,
    *,
    model_type: str = "qwen2",
    labels: int | None = 1,
    template: str | None = TEMPLATE,
    dtype: torch.dtype = torch.float64,
    **config: Any,
) -> str:
    """Write a folder of a few thousand parameters; labels None: a language model without a head for scores."""
    tokenizer = tiny_tokenizer(template)
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.5,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    settings = AutoConfig.for_model(model_type, **sizes | config)
    auto = AutoModelForCausalLM
    if labels is not None:
        settings.num_labels = labels
        auto = AutoModelForSequenceClassification
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = auto.from_config(settings, dtype=dtype)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def write_judge(folder: Path, family: str) -> str:
    """Write a reward model that takes pictures, of a family that has a class for it."""
    write_family(family, folder, CORPUS)
    config = AutoConfig.from_pretrained(folder)
    config.num_labels = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float64)
        for weight in model.parameters():
            if not weight.any():  # such as Gemma's projector, without which pictures do not count
                torch.nn.init.normal_(weight, std=0.1)
    model.save_pretrained(folder)
    if family == "gemma3":
        settings = {"image_seq_length": config.mm_tokens_per_image, "processor_class": "Gemma3Processor"}
        (folder / "processor_config.json").write_text(json.dumps(settings))
    return str(folder)


def judged(
    text: str,
    problem: str = "<image>which one is it?",
    *,
    pictures: tuple[str, ...] | None = None,
    load_images: Callable[[], list[Any]] | None = None,
    **fields: Any,
) -> RewardInput[Any]:
    """A completion as a reward gets it."""
    images = ("a.png",) * problem.count("<image>") if pictures is None else pictures
    record = Record("1", "vqa", problem, images, "red", source="here:1", **fields)
    return RewardInput(text, split_tags(text), Thinking.FREE, None, "red", (), record, load_images=load_images)


def edit(path: Path, **keys: Any) -> None:
    """Change keys of a JSON file; None takes one out."""
    tree = {k: v for k, v in (json.loads(path.read_text()) | keys).items() if v is not None}
    path.write_text(json.dumps(tree))
