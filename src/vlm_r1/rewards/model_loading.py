"""Loads a reward model: a sequence-classification model of transformers, with its own tokenizer and processor."""

from __future__ import annotations

import inspect
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoProcessor, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from vlm_r1.errors import ConfigError, ModelError
from vlm_r1.pretrained.loading import load_with
from vlm_r1.pretrained.remote_code import check_no_kernels
from vlm_r1.rewards.model_scores import Scorer

_WANTED = {
    "config": "the folder or Hub name of a reward model: config.json, weights, tokenizer",
    "tokenizer": "tokenizer.json and tokenizer_config.json beside the weights of the reward model",
    "processor": "preprocessor_config.json or processor_config.json beside the weights; some families need torchvision",
    "weights": "model.safetensors, whole, or its shards and their index; copy them from the original checkpoint",
}
"""The files that are loaded, for error messages."""


@cache
def load_scorer(path: str, revision: str = "", device: str = "auto", dtype: str = "auto") -> Scorer:
    """Load a reward model, once in a process; see `RewardModel` for the arguments.

    Raises:
        ConfigError: there is no such device.
        ModelError: the checkpoint cannot be loaded, has no trained head of one label, or no padding token.
    """
    where = _device(device)
    config, version = load_config(path, revision), _version(revision)
    tokenizer = _load("tokenizer", AutoTokenizer, path, **version)
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # transformers makes one up where none is
        raise ModelError(f"{path}: the tokenizer of the reward model has no vocabulary (wanted {_WANTED['tokenizer']})")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token_id is None:
        raise ModelError(
            f"{path}: the tokenizer of the reward model has neither a padding token nor an end-of-sequence token; name "
            "one as pad_token in tokenizer_config.json"
        )
    model = _model(path, config, dtype, version)
    # the score is that of the last token that is no padding, so model and tokenizer must agree on it
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    processor = _processor(path, tokenizer, version) if _takes_pictures(model) else None
    return Scorer(path, model.to(where).eval().requires_grad_(False), tokenizer, _longest(config, tokenizer), processor)


def _load(what: str, auto_class: Any, path: str, **options: Any) -> Any:
    """Load by one of transformers' auto classes. Code of a reward model never runs: nobody can allow it."""
    name, loader = f"{what} of the reward model", auto_class.from_pretrained
    return load_with(name, _WANTED[what], loader, path, may_be_trusted=False, trust_remote_code=False, **options)


def _takes_pictures(model: Any) -> bool:
    return "pixel_values" in inspect.signature(model.forward).parameters


def _processor(path: str, tokenizer: Any, version: dict[str, str]) -> Any:
    """Load the processor of texts and pictures, and give it the tokenizer that is used for texts alone."""
    processor = _load("processor", AutoProcessor, path, **version)
    template = getattr(processor, "chat_template", None) or tokenizer.chat_template
    if not (hasattr(processor, "image_processor") and template):
        raise ModelError(
            f"{path}: the reward model takes pictures, but has no image processor, or no chat template that says "
            "where they stand; copy preprocessor_config.json and chat_template.jinja from the original checkpoint"
        )
    processor.tokenizer, processor.chat_template, tokenizer.chat_template = tokenizer, template, template
    return processor


def load_config(path: str, revision: str = "") -> Any:
    """Load the config of a reward model.

    Raises:
        ModelError: there is none, or transformers has no sequence classification for its model type.
    """
    if (Path(path) / "adapter_config.json").exists():
        raise ModelError(
            f"{path}: holds LoRA adapters, not a whole reward model. Merge them into their base with peft's "
            "merge_and_unload, and name the folder that this is saved in"
        )
    config = _load("config", AutoConfig, path, **_version(revision))
    check_no_kernels(path, config)
    if config.model_type not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        raise ModelError(
            f'{path}: transformers has no sequence classification for model type "{config.model_type}", so this is no '
            "reward model that can be asked; wanted a checkpoint of AutoModelForSequenceClassification"
        )
    return config


def count_bytes(config: Any, dtype: str) -> int:
    """Return the bytes of the weights of a reward model in this type; auto: the type that its config names."""
    named = getattr(torch, dtype) if dtype != "auto" else config.dtype or torch.float32
    with torch.device("meta"):
        kind: Any = AutoModelForSequenceClassification
        model: torch.nn.Module = kind.from_config(config, trust_remote_code=False)
    return sum(p.numel() for p in model.parameters()) * named.itemsize


def _version(revision: str) -> dict[str, str]:
    return {"revision": revision} if revision else {}


def _model(path: str, config: Any, dtype: str, version: dict[str, str]) -> Any:
    """Load the weights with a head of one label, and refuse a head that is not in them: it would be noise."""
    model, found = _load(
        "weights",
        AutoModelForSequenceClassification,
        path,
        num_labels=1,
        dtype=dtype,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are reported below, by name
        **version,
    )
    for name, own, _ in sorted(found["mismatched_keys"]):
        raise ModelError(
            f"{path}: {name} has shape {tuple(own)}, so it is no reward model with one score; wanted a head of one "
            "label (num_labels 1)"
        )
    if missing := sorted(found["missing_keys"]):
        raise ModelError(
            f"{path}: the weights lack {', '.join(missing[:3])}: they are of a {_named(config)}, and a score by random "
            "weights would be noise; wanted a reward model trained with AutoModelForSequenceClassification"
        )
    return model


def _named(config: Any) -> str:
    return (getattr(config, "architectures", None) or [config.model_type])[0]


def _device(name: str) -> torch.device:
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if n_gpus else "cpu"
    if name == "cuda" and n_gpus:
        return torch.device("cuda", torch.cuda.current_device())  # that of this process
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= n_gpus:
        raise ConfigError(
            f'reward_model: device "{name}": torch sees {n_gpus} GPUs here; wanted one of these, or "cpu"'
        )
    return device


def _longest(config: Any, tokenizer: Any) -> int | None:
    """The most tokens that the model has positions for and its tokenizer says; None: there is no limit."""
    text = config.get_text_config()
    found = [getattr(text, "max_position_embeddings", None), tokenizer.model_max_length]
    return min((int(limit) for limit in found if limit and 0 < limit < 10**9), default=None)
