"""Scores of a reward model: loads a sequence-classification model of transformers, and asks it in batches."""

# pyright: standard

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from vlm_r1.errors import ConfigError, ModelError, RewardError
from vlm_r1.pretrained.loading import load_with
from vlm_r1.pretrained.remote_code import check_no_kernels
from vlm_r1.rewards.base import RewardInput
from vlm_r1.types import IMAGE_TOKEN

_log = logging.getLogger(__name__)

_WANTED = {
    "config": "the folder or Hub name of a reward model: config.json, weights, tokenizer",
    "tokenizer": "tokenizer.json and tokenizer_config.json beside the weights of the reward model",
    "weights": "model.safetensors, whole, or its shards and their index; copy them from the original checkpoint",
}
"""The files that are loaded, for error messages."""


@dataclass(frozen=True)
class Scorer:
    """A reward model that is loaded.

    Attributes:
        path: where it comes from, for messages.
        model: with one logit, in evaluation mode, without gradients.
        tokenizer: its own, with a padding token.
        longest: the most tokens that the model takes; None: it has no limit.
    """

    path: str
    model: Any
    tokenizer: Any
    longest: int | None

    def scores(self, givens: Sequence[RewardInput[Any]], batch_size: int, max_length: int = 0) -> list[float | None]:
        """Return the model's logit for each completion.

        Equal texts are scored once: padding must not tell equal completions apart, not even in the last digit.

        Args:
            batch_size: texts in one pass of the model.
            max_length: most tokens of a text; 0: as many as the model takes.

        Returns:
            None for a text with more tokens, and for a completion that holds a control token of the reward model.

        Raises:
            ConfigError: the model does not take max_length tokens.
            RewardError: a score is not finite, the chat template fails, or there is too little memory.
        """
        if self.longest is not None and max_length > self.longest:
            raise ConfigError(
                f"{self.path}: reward_model: max_length is {max_length:,}, but this model takes at most "
                f"{self.longest:,} tokens; lower it, or leave it out"
            )
        texts = [self.text_of(given) for given in givens]
        different = [text for text in dict.fromkeys(texts) if text is not None]
        most = max_length or self.longest or math.inf
        lengths = map(len, self._ids(different)["input_ids"]) if different else ()
        short = [text for text, length in zip(different, lengths, strict=True) if length <= most]
        found: dict[str | None, float] = {}
        for start in range(0, len(short), batch_size):
            batch = short[start : start + batch_size]
            found |= zip(batch, self._score(batch), strict=True)
        for given, text in zip(givens, texts, strict=True):
            if not math.isfinite(found.get(text, 0.0)):
                raise RewardError(
                    f"{given.record.source}: reward model {self.path} gave {found[text]}; wanted a finite number. A "
                    'wider type may help: dtype="float32"'
                )
        return [found.get(text) for text in texts]

    def text_of(self, given: RewardInput[Any]) -> str | None:
        """Write question and completion as the model reads them; None if the completion holds a control token.

        Raises:
            RewardError: the chat template fails.
        """
        if any(token in given.text for token in self._control_tokens):
            return None
        messages = [
            *([{"role": "system", "content": given.record.system}] if given.record.system else ()),
            {"role": "user", "content": given.record.problem.replace(IMAGE_TOKEN, "").strip()},
            {"role": "assistant", "content": given.text},
        ]
        if not self._has_template:
            return "\n".join(message["content"] for message in messages)
        try:
            return self.tokenizer.apply_chat_template(messages, tokenize=False)
        except (TemplateError, ValueError, TypeError, LookupError, AttributeError) as error:
            roles = ", ".join(message["role"] for message in messages)
            raise RewardError(
                f"{given.record.source}: the chat template of reward model {self.path} fails for messages of {roles}: "
                f"{error}"
            ) from error

    @property
    def _has_template(self) -> bool:
        return bool(self.tokenizer.chat_template)

    @cached_property
    def _control_tokens(self) -> frozenset[str]:
        added = (str(token) for token in self.tokenizer.added_tokens_decoder.values() if token.special)
        return frozenset((*self.tokenizer.all_special_tokens, *added)) - {""}

    def _ids(self, texts: Sequence[str], **options: Any) -> Any:
        """Tokenize; a chat template writes the special tokens itself."""
        return self.tokenizer(text=list(texts), add_special_tokens=not self._has_template, verbose=False, **options)

    def _score(self, texts: Sequence[str]) -> list[float]:
        inputs = self._ids(texts, return_tensors="pt", padding=True, padding_side="right")
        n_embedded, greatest = self.model.get_input_embeddings().weight.shape[0], int(inputs["input_ids"].max())
        if greatest >= n_embedded:
            raise ModelError(
                f"{self.path}: its tokenizer gives token id {greatest}, but the reward model embeds {n_embedded}: "
                "take both from one checkpoint"
            )
        device = self.model.device
        try:
            with torch.inference_mode(), torch.autocast(device.type, enabled=False):
                logits = self.model(**inputs.to(device)).logits
        except torch.OutOfMemoryError as error:
            raise RewardError(
                f"reward model {self.path}: {device} has too little memory for {len(texts)} texts of "
                f"{inputs['input_ids'].shape[1]:,} tokens: lower its batch_size, or name another device"
            ) from error
        if logits.shape != (len(texts), 1):
            raise ModelError(
                f"{self.path}: gave logits of shape {tuple(logits.shape)} for {len(texts)} texts; wanted a number each"
            )
        return logits[:, 0].tolist()


@cache
def load_scorer(path: str, revision: str = "", device: str = "auto", dtype: str = "auto") -> Scorer:
    """Load a reward model, once in a process; see `RewardModel` for the arguments.

    Raises:
        ConfigError: there is no such device.
        ModelError: the checkpoint cannot be loaded, has no trained head of one label, or no padding token.
    """
    where = _device(device)
    config, version = load_config(path, revision), _version(revision)
    tokenizer = load_with(
        "tokenizer of the reward model",
        _WANTED["tokenizer"],
        AutoTokenizer.from_pretrained,
        path,
        trust_remote_code=False,
        **version,
    )
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
    return Scorer(path, model.to(where).eval().requires_grad_(False), tokenizer, _longest(config, tokenizer))


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
    config = load_with(
        "config of the reward model",
        _WANTED["config"],
        AutoConfig.from_pretrained,
        path,
        trust_remote_code=False,
        **_version(revision),
    )
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
        model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    return sum(p.numel() for p in model.parameters()) * named.itemsize


def _version(revision: str) -> dict[str, str]:
    return {"revision": revision} if revision else {}


def _model(path: str, config: Any, dtype: str, version: dict[str, str]) -> Any:
    """Load the weights with a head of one label, and refuse a head that is not in them: it would be noise."""
    model, found = load_with(
        "weights of the reward model",
        _WANTED["weights"],
        AutoModelForSequenceClassification.from_pretrained,
        path,
        num_labels=1,
        dtype=dtype,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are reported below, by name
        trust_remote_code=False,
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
