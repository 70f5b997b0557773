"""Engines for runs whose answers follow a plan: how a model detects cats in each step, and how it goes wrong.

A record is asked by its number alone ("picture 7"). The completions come from the scripted sampler. Their
log-probabilities are the policy's, as if it had drawn them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from vlm_r1.config.schema import SamplingSection
from vlm_r1.parsing.labelled_boxes import LabelledBox
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.sampling.base import SamplingParams
from vlm_r1.sampling.hf import HFSampler
from vlm_r1.sampling.scripted import ScriptedSampler
from vlm_r1.tasks import get_task
from vlm_r1.types import Box, BoxFormat, Completion, EncodedPrompt

HELD_OUT_FROM = 100
"""Number of the first held-out record."""

WRONG: tuple[Box, ...] = ((70, 4, 80, 14), (84, 4, 94, 14), (98, 4, 108, 14))
"""Boxes that meet no true one."""

Said = tuple[str, Sequence[Box]]
"""A thought and boxes in pixels; no boxes are written as None."""

Plan = Callable[[int, int, int], Said]
"""What is said, by the number of finished steps, of the record and of the completion in its group."""


def true_boxes(record: int) -> tuple[Box, ...]:
    """The two true boxes of a record; every eighth has none."""
    shift = record % 10
    return () if record % 8 == 0 else ((4 + shift, 20, 40 + shift, 52), (50, 60 + shift, 84, 98 + shift))


def write_records(path: Path, records: Sequence[int]) -> Path:
    """Write a file of these records, and the one picture that all are about. It is grey: the engines need none."""
    Image.new("RGB", (112, 112), "grey").save(path.with_suffix(".png"))
    lines = [
        {
            "id": record,
            "image": path.with_suffix(".png").name,
            "problem": f"<image>picture {record}",
            "answer": [{"bbox_2d": box, "label": "cat"} for box in true_boxes(record)] or "None",
        }
        for record in records
    ]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path


# ---- plans ---------------------------------------------------------------------------------------------------------


def right(step: int, record: int, g: int) -> Said:
    """Both true boxes; every second completion of a training record has a wrong one instead of the second."""
    true = true_boxes(record)
    return "look", true if g % 2 == 0 or record >= HELD_OUT_FROM else (*true[:1], WRONG[0])


def lists_more(step: int, record: int, g: int) -> Said:
    """One box at first; from step 10 on more true boxes, and wrong ones behind them. Held-out boxes are wrong then."""
    true = true_boxes(record)
    if record >= HELD_OUT_FROM:
        return "look", true if step < 10 else WRONG[: len(true)]
    if step < 10:
        return "look", true[:1] if g % 2 == 0 else WRONG[:1]
    return "look", (*true[: 2 - g % 2], *WRONG[: 3 - g % 2])


def says_none(step: int, record: int, g: int, since: int) -> Said:
    """As `right`; from a step on None, whatever the picture."""
    return right(step, record, g) if step < since else ("look", ())


def rambles(step: int, record: int, g: int) -> Said:
    """One box, after a thought that grows by six words in each step."""
    return "look" + " the" * 6 * step, true_boxes(record)[:1] if g % 2 == 0 else WRONG[:1]


def thinks_long(step: int, record: int, g: int) -> Said:
    """As `right`, but every second completion thinks 70 words more."""
    thought, boxes = right(step, record, g)
    return thought + " the" * 70 * (g % 2), boxes


# ---- engines -------------------------------------------------------------------------------------------------------


class Planned:
    """Answers as a plan says.

    Args:
        written: the coordinates of the boxes; None: those in which they are read.
    """

    def __init__(self, policy: Policy, section: SamplingSection, plan: Plan, written: BoxFormat | None = None):
        self._policy, self._plan, self._written, self._step = policy, plan, written, 0

    def sync(self, version: int) -> None:
        self._step = version

    @torch.no_grad()
    def sample(
        self, prompts: Sequence[EncodedPrompt], seeds_P_G: Sequence[Sequence[int]], params: SamplingParams
    ) -> list[list[Completion]]:
        texts_P_G = [[self._text(prompt, g) for g in range(len(seeds_P_G[0]))] for prompt in prompts]
        script = ScriptedSampler(texts_P_G, self._policy.adapter)
        script.sync(self._step)
        told_P_G = script.sample(prompts, seeds_P_G, params)
        rows = iter(self._policy(CompletionBatch.of_groups(prompts, told_P_G)).logprobs_NT.tolist())
        return [[_drawn(one, next(rows)) for one in group] for group in told_P_G]

    def _text(self, prompt: EncodedPrompt, g: int) -> str:
        number = re.search(r"picture (\d+)", prompt.text)
        assert number is not None
        thought, boxes = self._plan(self._step, int(number[1]), g)
        cats = tuple(LabelledBox("cat", box) for box in boxes)
        answer = get_task("ovd").gold_text(cats, prompt.frames, self._written or prompt.box_format)
        return f"<think>{thought}</think><answer>{answer}</answer>"


def _drawn(one: Completion, logprobs_T: Sequence[float]) -> Completion:
    return Completion.sampled(one.ids_T, logprobs_T[: len(one.ids_T)], one.text, one.stop_reason, one.version)


RIGHT = partial(Planned, plan=right)
RIGHT_IN_THOUSANDTHS = partial(Planned, plan=right, written=BoxFormat.NORM_1000)
LISTS_MORE = partial(Planned, plan=lists_more)
ALWAYS_NONE = partial(Planned, plan=partial(says_none, since=0))
LATER_NONE = partial(Planned, plan=partial(says_none, since=15))
RAMBLES = partial(Planned, plan=rambles)
THINKS_LONG = partial(Planned, plan=thinks_long)


class Warmer(HFSampler):
    """transformers, which draws at another temperature than it is told, but not before the third step."""

    def __init__(self, policy: Policy, section: SamplingSection):
        super().__init__(policy.model, policy.adapter)

    def sample(
        self, prompts: Sequence[EncodedPrompt], seeds_P_G: Sequence[Sequence[int]], params: SamplingParams
    ) -> list[list[Completion]]:
        told = params if self._version < 2 else replace(params, temperature=2 * params.temperature)
        return super().sample(prompts, seeds_P_G, told)
