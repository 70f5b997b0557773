"""Turns records into prompts and judges answers: Record → Prompt → EncodedPrompt, and Completion → Score.

Training, evaluation, SFT and `trace` all use it.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from PIL.Image import Image

from vlm_r1.data.access import Access
from vlm_r1.data.ahead import ImagesAhead
from vlm_r1.data.images import image_size, load_image
from vlm_r1.errors import DataError, ModelError, OverlongError
from vlm_r1.models.adapter import Adapter
from vlm_r1.models.chat import with_long_texts
from vlm_r1.rewards.base import UNTRAINED, TrainerState
from vlm_r1.rewards.call import Logged
from vlm_r1.rewards.guard import REWARD_TIMEOUT_S
from vlm_r1.tasks import get_task
from vlm_r1.tasks.judge import Attempt, Reading, judge, read_answer
from vlm_r1.tasks.templates import Template, Templates, build_prompt, gold_completion
from vlm_r1.types import BoxFormat, Completion, EncodedPrompt, ImageFrame, Prompt, Record, Score

CACHE_BYTES = 1 << 30
"""Bytes of encoded prompts that are kept for the next epoch or evaluation. Small data sets fit completely."""

_TOKEN_BYTES = 40
"""Bytes of a Python int and the reference to it. A prompt without images consists of these."""


_FileState = tuple[int, int] | None
_Key = tuple[Prompt, Template, tuple[_FileState, ...]]


class Env:
    """The only place where tasks, templates and a model family meet: it encodes questions and judges completions.

    Encoding is a pure function of prompt and images, so the most recent results are kept (up to `CACHE_BYTES`).
    """

    def __init__(
        self,
        adapter: Adapter,
        templates: Templates,
        rewards: Mapping[str, float],
        *,
        combination: str = "sum",
        reward_timeout_s: float = REWARD_TIMEOUT_S,
        max_prompt_length: int | None = None,
        images: ImagesAhead | None = None,
    ):
        self.adapter = adapter
        self.templates = templates
        self.rewards = rewards
        self.combination = combination
        self.reward_timeout_s = reward_timeout_s
        self.max_prompt_length = max_prompt_length
        self._images = images or ImagesAhead(0)
        self.access = self._images.access
        self._cache: OrderedDict[_Key, EncodedPrompt] = OrderedDict()
        self._cached_bytes = 0

    def encode(self, record: Record) -> EncodedPrompt:
        """Build the record's prompt, load its images and encode both.

        Raises:
            OverlongError: the prompt is longer than `max_prompt_length`.
            DataError: an image cannot be read; names the record.
            ModelError: the prompt cannot be encoded, e.g. its text holds the model's own placeholder; names the record.
        """
        prompt, template = self.ask(record)
        key = self._key(prompt, template)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        with _naming(record):
            encoded = self.adapter.encode(prompt, [self._images.load(path) for path in prompt.images])
        self._refuse_long(record, len(encoded.ids_L))
        encoded = replace(
            encoded,
            template=template.name,
            box_format=self.adapter.box_format,
            load_images=partial(_load_images, self.adapter, self.access, prompt.images, encoded.frames),
        )
        self._remember(key, encoded)
        return encoded

    def start(self, records: Sequence[Record]) -> None:
        """Start to decode, in the background, the images of records that will be encoded next."""
        asked = map(self.ask, records)
        prompts = [prompt for prompt, template in asked if self._key(prompt, template) not in self._cache]
        self._images.start(path for prompt in prompts for path in prompt.images)

    def prompt_length(self, record: Record) -> int:
        """Return the number of tokens of the record's prompt; images are measured, not decoded."""
        prompt, _ = self.ask(record)
        sizes_wh = [image_size(path, self.access) for path in prompt.images]
        with _naming(record):
            return self.adapter.prompt_length(prompt, sizes_wh)

    def check_context(self, records: Iterable[Record]) -> None:
        """Render the first record with a system message, and the first with each number of earlier turns.

        A chat template has a system role and several turns, or it has not: the texts do not matter.

        Raises:
            ModelError: the template leaves a message out; names the record.
        """
        seen = {(False, 0)}
        for record in records:
            kind = (bool(record.system), len(record.history))
            if kind not in seen:
                seen.add(kind)
                with _naming(record):
                    prompt, _ = self.ask(record)
                    self.adapter.render(prompt)
                    self.adapter.render(with_long_texts(prompt))

    def check_length(self, record: Record) -> None:
        """Refuse a record whose prompt is too long.

        Raises:
            OverlongError: it has more than `max_prompt_length` tokens; image tokens are never cut.
        """
        if self.max_prompt_length is not None:
            self._refuse_long(record, self.prompt_length(record))

    def is_overlong(self, record: Record) -> bool:
        """Return whether the record's prompt has more than `max_prompt_length` tokens; images are measured."""
        return self.max_prompt_length is not None and self.prompt_length(record) > self.max_prompt_length

    def _refuse_long(self, record: Record, length: int) -> None:
        if self.max_prompt_length is not None and length > self.max_prompt_length:
            raise OverlongError(
                f"{record.source}: record {record.id}: the prompt has {length} tokens, more than max_prompt_length "
                f"{self.max_prompt_length}: raise data.max_prompt_length, lower model.max_pixels, drop the record, or "
                "set data.filter_overlong_prompts"
            )

    def judge(
        self,
        answered: Sequence[tuple[Record, EncodedPrompt, Completion]],
        trainer_state: TrainerState = UNTRAINED,
        logged: Logged | None = None,
    ) -> list[Score]:
        """Score completions of records' prompts, all at once, in this order; see `tasks.judge`."""
        attempts = [self._attempt(*one, trainer_state) for one in answered]
        return self.judge_attempts(attempts, self.adapter.box_format, logged)

    def read(self, record: Record, encoded: EncodedPrompt, completion: Completion) -> Reading:
        """Read a completion as `judge` does; the record needs no gold answer."""
        return read_answer(self._attempt(record, encoded, completion, UNTRAINED), self.adapter.box_format)

    def _attempt(
        self, record: Record, encoded: EncodedPrompt, completion: Completion, trainer_state: TrainerState
    ) -> Attempt:
        return Attempt(
            completion.text,
            record,
            encoded.frames,
            get_task(record.task),
            self.templates.of(record),
            n_tokens=completion.length,
            completion_ids=completion.ids_T,
            trainer_state=trainer_state,
            load_images=partial(self.load_images, record),
        )

    def load_images(self, record: Record) -> list[Image]:
        """Open the pictures of a record as they are, not as the model sees them.

        Raises:
            DataError: one of them cannot be read.
        """
        return [load_image(path, self.access) for path in record.images]

    def judge_attempts(
        self, attempts: Sequence[Attempt], box_format: BoxFormat, logged: Logged | None = None
    ) -> list[Score]:
        """Call `tasks.judge` with this env's rewards, their combination and their time limit."""
        return judge(attempts, box_format, self.rewards, self.combination, logged, timeout_s=self.reward_timeout_s)

    def gold_text(self, record: Record, encoded: EncodedPrompt) -> str:
        """Return the completion that a perfect model writes."""
        task = get_task(record.task)
        return gold_completion(task, record, encoded.frames, self.adapter.box_format, self.templates.of(record))

    def gold_ids(self, record: Record, encoded: EncodedPrompt, end: int) -> tuple[int, ...]:
        """Return the token ids that SFT learns: `gold_text` and then `end`, a stop token (`Adapter.answer_end`)."""
        return (*self.adapter.tokenize(self.gold_text(record, encoded)), end)

    def ask(self, record: Record) -> tuple[Prompt, Template]:
        """Return the prompt of a record and its template; with adapter and image files, they decide the encoding."""
        template = self.templates.of(record)
        return build_prompt(get_task(record.task), record, template), template

    def _key(self, prompt: Prompt, template: Template) -> _Key:
        """What an encoding depends on: a picture that has changed or gone is not taken from the cache."""
        return prompt, template, tuple(map(_file_state, prompt.images))

    def _remember(self, key: _Key, encoded: EncodedPrompt) -> None:
        self._cache[key] = encoded
        self._cached_bytes += _bytes(encoded)
        while self._cached_bytes > CACHE_BYTES:
            self._cached_bytes -= _bytes(self._cache.popitem(last=False)[1])


@contextmanager
def _naming(record: Record) -> Generator[None]:
    """Within this context errors about data and model start with the record's file and line."""
    try:
        yield
    except (DataError, ModelError) as error:
        raise type(error)(f"{record.source}: {error}") from error


def same_encoding(a: EncodedPrompt, b: EncodedPrompt) -> bool:
    """Return whether tokens, frames and tensors are equal, to the last bit."""
    equal = a.vision.keys() == b.vision.keys() and all(torch.equal(a.vision[k], b.vision[k]) for k in a.vision)
    return equal and a.ids_L == b.ids_L and a.frames == b.frames


def _load_images(
    adapter: Adapter, access: Access, paths: Sequence[str], frames: Sequence[ImageFrame]
) -> tuple[Image, ...]:
    """The pictures of a prompt as the model sees them; a file that has vanished is a DataError."""
    images = (load_image(path, access) for path in paths)
    return tuple(adapter.as_seen(image, frame) for image, frame in zip(images, frames, strict=True))


def _file_state(path: str) -> _FileState:
    """Time of change (ns) and size (bytes) of a file; None if there is none, or it is remote."""
    try:
        state = os.stat(path)
    except (OSError, ValueError):
        return None
    return state.st_mtime_ns, state.st_size


def _bytes(encoded: EncodedPrompt) -> int:
    return sum(tensor.nbytes for tensor in encoded.vision.values()) + _TOKEN_BYTES * len(encoded.ids_L)
