"""The input and the type of reward functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from vlm_r1.errors import ConfigError, DataError
from vlm_r1.parsing.tags import TaggedText
from vlm_r1.types import AnswerValue, ImageFrame, PlacedBox, Record, Thinking

V = TypeVar("V")


@dataclass(frozen=True)
class TrainerState:
    """The progress of training when a reward is called; the names are those of transformers.

    Attributes:
        global_step: number of finished steps: 0 while the completions of the first step are judged.
        max_steps: number of steps of the run; None: unknown, as for rollouts that are scored without their recipe.
    """

    global_step: int
    max_steps: int | None


UNTRAINED, TRAINED = TrainerState(0, 1), TrainerState(1, 1)
"""The states before the first and after the last step, for use without a run that has a number of steps."""


@dataclass(frozen=True)
class RewardInput(Generic[V]):
    """One completion as read by its task; V is the type of the task's answers, e.g. Box.

    Attributes:
        text: the whole completion.
        tagged: the completion split at its tags.
        thinking: whether the template asks for thinking before the answer.
        value: the parsed answer, boxes in original pixels; None if nothing could be parsed.
        gold: the gold answer in the same form.
        frames: for each image of the record its size, and the size at which the model saw it.
        record: the record: question, paths of the images, other columns of its line.
        n_tokens: number of tokens of the completion with the stop token; None: they were not counted.
        parts: the components of the reward that were computed before this one; "accuracy" is the first. The value is
            None if a component left this completion out.
        gold_boxes: the boxes of the gold answer, each with the image on which it lies; empty for tasks without boxes.
        completion_ids: token ids of the completion with the stop token; None: there are none.
        trainer_state: the progress of training.
        load_images: opens the pictures of the record, as upright RGB images of Pillow, in their order; None: where
            texts are judged without their pictures (`vlm-r1 score`, `vlm-r1 data check`).
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
    parts: dict[str, float | None] = field(default_factory=dict[str, float | None])
    gold_boxes: tuple[PlacedBox, ...] = ()
    completion_ids: tuple[int, ...] | None = None
    trainer_state: TrainerState = UNTRAINED
    load_images: Callable[[], Sequence[Any]] | None = None
    extra: dict[str, AnswerValue] = field(default_factory=dict[str, AnswerValue])
    counts: Counter[str] = field(default_factory=Counter[str])


RewardFunction = Callable[[RewardInput[Any]], float]
"""A pure function of the completion, except that it may add to `RewardInput.counts`.

It must accept `value=None` (most return 0) and return a finite number; otherwise the run stops. Options are keyword
arguments with defaults: `iou_threshold(at=0.75)` in a recipe calls it with `at=0.75`. One of ours checks the values of
its options before it looks at its input, so that they are checked where the name is read (`signature.resolve_reward`).
"""


def unsuitable(given: RewardInput[Any], name: str, wanted: str) -> DataError:
    """Make the error for a reward that cannot compare answers of this record's task."""
    return DataError(
        f'{given.record.source}: reward "{name}" compares {wanted}, but the gold answer of task "{given.record.task}" '
        f"is {given.gold!r:.200}; choose another reward (accu_reward_method in the data, reward in the recipe's data "
        "source)"
    )


def wrong_option(reward: str, option: str, got: object, wanted: str) -> ConfigError:
    """Make the error for an option with a value that makes no sense."""
    return ConfigError(f'reward "{reward}": {option} is {got!r}; wanted {wanted}')
