"""What a reward function is given, and what it must give back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from vlm_r1.errors import ConfigError, DataError
from vlm_r1.parsing.tags import TaggedText
from vlm_r1.types import AnswerValue, ImageFrame, Record, Thinking

V = TypeVar("V")


@dataclass(frozen=True)
class TrainerState:
    """How far training is when a reward is called; the names are those of transformers.

    Attributes:
        global_step: finished steps: 0 while the completions of the first step are judged.
        max_steps: steps of the run; None where nobody knows, as for rollouts that are scored without their recipe.
    """

    global_step: int
    max_steps: int | None


UNTRAINED, TRAINED = TrainerState(0, 1), TrainerState(1, 1)
"""Before the first step, and after the last one, where no run is known that could say how many there are."""


@dataclass(frozen=True)
class RewardInput(Generic[V]):
    """One completion, read by its task; V is the type of the task's answers, e.g. Box.

    Attributes:
        text: the whole completion.
        tagged: the completion taken apart.
        thinking: what the template that asked wants before the answer.
        value: the parsed answer, boxes in original pixels; None if nothing could be parsed.
        gold: the gold answer in the same terms.
        frames: one for each image of the record: how big it is, and how big the model saw it.
        record: where it comes from: question, paths of the images, other columns of its line.
        n_tokens: tokens of the completion, the stop token included; None where nobody counted them.
        parts: the rewards of this completion that were computed before this one; "accuracy" is the first. None where
            one left this completion out.
        image: index of the image that boxes and points lie on, as in a sequence: −1 is the last.
        completion_ids: its token ids, the stop token included; None where there are none.
        trainer_state: how far training is.
        extra: further values that rewards log, by name; filled by TRL's `log_extra`.
        counts: numbers of events that rewards count, by metric name; a training step logs their sums.
    """

    text: str
    tagged: TaggedText
    thinking: Thinking
    value: V | None
    gold: V
    frames: tuple[ImageFrame, ...]
    record: Record
    n_tokens: int | None = None
    parts: dict[str, float | None] = field(default_factory=dict)
    image: int = 0
    completion_ids: tuple[int, ...] | None = None
    trainer_state: TrainerState = UNTRAINED
    extra: dict[str, AnswerValue] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


RewardFunction = Callable[[RewardInput[Any]], float]
"""A pure function. It takes `value=None` too (most give 0) and returns a finite number; else the run stops.

Options are keyword arguments with defaults: `iou_threshold(at=0.75)` in a recipe calls it with `at=0.75`.
"""


def unsuitable(given: RewardInput[Any], name: str, wanted: str) -> DataError:
    """The error for a reward that cannot compare answers of this record's task."""
    return DataError(
        f'{given.record.source}: reward "{name}" compares {wanted}, but the gold answer of task "{given.record.task}" '
        f"is {given.gold!r:.200}; choose another reward (accu_reward_method in the data, reward in the recipe's data "
        "source)"
    )


def wrong_option(reward: str, option: str, got: object, wanted: str) -> ConfigError:
    """The error for an option with a value that makes no sense."""
    return ConfigError(f'reward "{reward}": {option} is {got!r}; wanted {wanted}')
