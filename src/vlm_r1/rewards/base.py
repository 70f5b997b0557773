"""What a reward function is given, and what it must give back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from vlm_r1.errors import DataError
from vlm_r1.parsing.tags import TaggedText
from vlm_r1.types import ImageFrame, Record

V = TypeVar("V")


@dataclass(frozen=True)
class RewardInput(Generic[V]):
    """One completion, read by its task; V is the type of the task's answers, e.g. Box.

    Attributes:
        text: the whole completion.
        tagged: the completion taken apart.
        thinking: whether the template asks for `<think>…</think><answer>…</answer>`; if not, for no tags at all.
        value: the parsed answer, boxes in original pixels; None if nothing could be parsed.
        gold: the gold answer in the same terms.
        frames: one for each image of the record.
        record: where it comes from.
    """

    text: str
    tagged: TaggedText
    thinking: bool
    value: V | None
    gold: V
    frames: tuple[ImageFrame, ...]
    record: Record


RewardFunction = Callable[[RewardInput[Any]], float]
"""A pure function. It takes `value=None` too (most give 0) and returns a finite number; else the run stops."""


def evaluate(name: str, function: RewardFunction, given: RewardInput[Any]) -> float:
    """Call a reward function, and stop with the name of reward and record if it misbehaves.

    Raises:
        ValueError: the reward is not a finite number. What the function itself raises goes through, with a note.
    """
    try:
        reward = function(given)
    except Exception as error:  # the boundary to other people's rewards: nothing is swallowed
        error.add_note(f'{given.record.source}: raised by reward "{name}"')
        raise
    if isinstance(reward, int | float) and math.isfinite(reward):
        return float(reward)
    raise ValueError(
        f'{given.record.source}: reward "{name}" returned {reward!r}; wanted a finite number: mend the function'
    )


def unsuitable(given: RewardInput[Any], name: str, wanted: str) -> DataError:
    """The error for a reward that cannot compare answers of this record's task."""
    return DataError(
        f'{given.record.source}: reward "{name}" compares {wanted}, but the gold answer of task "{given.record.task}" '
        f"is {given.gold!r}; choose another reward (accu_reward_method in the data, reward in the recipe's data source)"
    )
