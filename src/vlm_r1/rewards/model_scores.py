"""Asks a reward model in batches: what it reads of a completion, what is too long for it, and its score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jinja2 import TemplateError

from vlm_r1.errors import ConfigError, ModelError, RewardError
from vlm_r1.rewards.base import RewardInput
from vlm_r1.types import IMAGE_TOKEN


class Asked(NamedTuple):
    """What the model is asked about one completion: a text, and the paths of the pictures that belong to it."""

    text: str
    pictures: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scorer:
    """A reward model that is loaded.

    Attributes:
        path: where it comes from, for messages.
        model: with one logit, in evaluation mode, without gradients.
        tokenizer: its own, with a padding token.
        longest: the most tokens that the model takes; None: it has no limit.
        processor: of texts and pictures together, with the same tokenizer; None: the model takes no pictures.
    """

    path: str
    model: Any
    tokenizer: Any
    longest: int | None
    processor: Any = None

    def scores(self, givens: Sequence[RewardInput[Any]], batch_size: int, max_length: int = 0) -> list[float | None]:
        """Return the model's logit for each completion.

        Equal completions are scored once: padding must not tell them apart, not even in the last digit.

        Args:
            batch_size: completions in one pass of the model.
            max_length: most tokens of a conversation; 0: as many as the model takes.

        Returns:
            None for a conversation with more tokens, or with a control token of the reward model in one of its texts.

        Raises:
            ConfigError: the model does not take max_length tokens.
            RewardError: a score is not finite, the chat template fails, pictures cannot be opened here, or there is too
                little memory.
        """
        if self.longest is not None and max_length > self.longest:
            raise ConfigError(
                f"{self.path}: reward_model: max_length is {max_length:,}, but this model takes at most "
                f"{self.longest:,} tokens; lower it, or leave it out"
            )
        asked_N = [self.asked(given) for given in givens]
        opened = self._open(givens, asked_N)
        different = [asked for asked in dict.fromkeys(asked_N) if asked is not None]
        most = max_length or self.longest or math.inf
        short = self._not_longer(different, most)
        found: dict[Asked | None, float] = {}
        for with_pictures in (False, True):  # processors take no batch of both kinds
            alike = [asked for asked in short if bool(asked.pictures) == with_pictures]
            for start in range(0, len(alike), batch_size):
                found |= self._score(alike[start : start + batch_size], opened, most)
        for given, asked in zip(givens, asked_N, strict=True):
            if not math.isfinite(found.get(asked, 0.0)):
                raise RewardError(
                    f"{given.record.source}: reward model {self.path} gave {found[asked]}; wanted a finite number. A "
                    'wider type may help: dtype="float32"'
                )
        return [found.get(asked) for asked in asked_N]

    def asked(self, given: RewardInput[Any]) -> Asked | None:
        """Write question and completion as the model reads them; None if one of them holds a control token.

        Raises:
            RewardError: the chat template fails.
        """
        record = given.record
        question = {"role": "user", "content": record.problem}
        turns = [*record.context, question, {"role": "assistant", "content": given.text}]
        if any(token in turn["content"] for token in self._control_tokens for turn in turns):
            return None
        if self.processor is None:
            asking = [turn["content"].replace(IMAGE_TOKEN, "").strip() for turn in turns[:-1]]
            turns = [{**turn, "content": text} for turn, text in zip(turns, [*asking, given.text], strict=True)]
        if not self._has_template:
            return Asked("\n".join(turn["content"] for turn in turns))
        content = _parts if self.processor is not None else str
        messages = [{**turn, "content": content(turn["content"])} for turn in turns]
        try:
            text = (self.processor or self.tokenizer).apply_chat_template(messages, tokenize=False)
        except (TemplateError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise RewardError(
                f"{record.source}: the chat template of reward model {self.path} fails for messages of "
                f"{', '.join(turn['role'] for turn in turns)}: {error}"
            ) from error
        return Asked(text, record.images if self.processor is not None else ())

    def _open(self, givens: Sequence[RewardInput[Any]], asked_N: Sequence[Asked | None]) -> dict[tuple[str, ...], Any]:
        """Open the pictures that the model is shown, each once."""
        opened: dict[tuple[str, ...], Any] = {}
        for given, asked in zip(givens, asked_N, strict=True):
            if asked is None or not asked.pictures or asked.pictures in opened:
                continue
            if given.load_images is None:
                raise RewardError(
                    f"{given.record.source}: reward model {self.path} looks at pictures, and this command opens none: "
                    "judge with it in training or `vlm-r1 eval`"
                )
            opened[asked.pictures] = list(given.load_images())
        return opened

    def _not_longer(self, asked: Sequence[Asked], most: float) -> list[Asked]:
        """Return those whose text has no more tokens; the tokens of pictures are not counted yet."""
        texts = [one.text for one in asked]
        ids: list[list[int]] = self._tokens(self.tokenizer, texts)["input_ids"] if asked else []
        return [one for one, own in zip(asked, ids, strict=True) if len(own) <= most]

    @property
    def _has_template(self) -> bool:
        return bool(self.tokenizer.chat_template)

    @cached_property
    def _control_tokens(self) -> frozenset[str]:
        added = (str(token) for token in self.tokenizer.added_tokens_decoder.values() if token.special)
        return frozenset((*self.tokenizer.all_special_tokens, *added)) - {""}

    def _tokens(self, tokenizer: Any, texts: Sequence[str], **options: Any) -> Any:
        """Tokenize; a chat template writes the special tokens itself."""
        return tokenizer(text=list(texts), add_special_tokens=not self._has_template, **options)

    def _score(self, asked: Sequence[Asked], opened: Mapping[tuple[str, ...], Any], most: float) -> dict[Asked, float]:
        """Return the logits of one pass; without those that pictures make too long."""
        pictures = {"images": [opened[one.pictures] for one in asked]} if any(one.pictures for one in asked) else {}
        options: dict[str, Any] = {"return_tensors": "pt", "padding": True, "padding_side": "right", **pictures}
        inputs = self._tokens(self.processor if pictures else self.tokenizer, [one.text for one in asked], **options)
        lengths = inputs["attention_mask"].sum(1).tolist()
        if max(lengths) > most:
            short = [one for one, length in zip(asked, lengths, strict=True) if length <= most]
            return self._score(short, opened, most) if short else {}
        self._check_ids(int(inputs["input_ids"].max()))
        logits = self._logits(inputs)
        if logits.shape != (len(asked), 1):
            raise ModelError(
                f"{self.path}: gave logits of shape {tuple(logits.shape)} for {len(asked)} texts; wanted a number each"
            )
        return dict(zip(asked, logits[:, 0].tolist(), strict=True))

    def _check_ids(self, greatest: int) -> None:
        n_embedded = self.model.get_input_embeddings().weight.shape[0]
        if greatest >= n_embedded:
            raise ModelError(
                f"{self.path}: its tokenizer gives token id {greatest}, but the reward model embeds {n_embedded}: "
                "take both from one checkpoint"
            )

    def _logits(self, inputs: Mapping[str, Any]) -> Any:
        device, dtype = self.model.device, self.model.dtype
        placed = {name: x.to(device, dtype if x.is_floating_point() else x.dtype) for name, x in inputs.items()}
        try:
            with torch.inference_mode(), torch.autocast(device.type, enabled=False):
                return self.model(**placed).logits
        except torch.OutOfMemoryError as error:
            raise RewardError(
                f"reward model {self.path}: {device} has too little memory for conversations of "
                f"{tuple(placed['input_ids'].shape)} tokens: lower its batch_size, or name another device"
            ) from error


def _parts(text: str) -> list[dict[str, str]]:
    """Split a text with `<image>` marks into the parts of a message.

    >>> _parts("<image>which?")
    [{'type': 'image'}, {'type': 'text', 'text': 'which?'}]
    """
    first, *rest = text.split(IMAGE_TOKEN)
    parts = [{"type": "text", "text": first}]
    for one in rest:
        parts += [{"type": "image"}, {"type": "text", "text": one}]
    return [part for part in parts if part.get("text") != ""]
