"""Tiny reward models: a class of transformers with a score head and random weights, and a tokenizer with a template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

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


def judged(text: str, problem: str = "<image>which one is it?", **fields: Any) -> RewardInput[Any]:
    """A completion as a reward gets it."""
    record = Record("1", "vqa", problem, ("a.png",) * problem.count("<image>"), "red", source="here:1", **fields)
    return RewardInput(text, split_tags(text), Thinking.FREE, None, "red", (), record)


def edit(path: Path, **keys: Any) -> None:
    """Change keys of a JSON file; None takes one out."""
    tree = {k: v for k, v in (json.loads(path.read_text()) | keys).items() if v is not None}
    path.write_text(json.dumps(tree))
