"""The one judging function: training, evaluation, re-scoring and data checks all call `judge`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from vlm_r1.errors import ConfigError, DataError
from vlm_r1.parsing.tags import TaggedText, split_tags
from vlm_r1.registry import resolve
from vlm_r1.rewards import REWARDS, RewardFunction, RewardInput, weighted_sum
from vlm_r1.rewards.base import evaluate
from vlm_r1.tasks import get_task
from vlm_r1.tasks.base import Task
from vlm_r1.tasks.templates import Template
from vlm_r1.types import BoxFormat, ImageFrame, Parsed, ParseFailure, Record, Score

ACCURACY = "accuracy"
"""The part that stands for the reward of the record, of its source, or of its task, in this order."""

_OUTSIDE_TOLERANCE_PX = 1.0  # annotation tools that count pixels inclusively write boxes one pixel too wide


def judge(
    text: str,
    record: Record,
    frames: tuple[ImageFrame, ...],
    box_format: BoxFormat,
    *,
    task: Task[Any],
    template: Template,
    rewards: Mapping[str, float],
) -> Score:
    """Read a completion, compare it with the gold answer, and combine the rewards.

    Args:
        text: what the model wrote; any text at all gives a Score, in time linear in its length.
        record: the question and its gold answer.
        frames: one for each image of the record.
        box_format: the coordinates in which the model writes boxes.
        task: reads and measures the answer.
        template: which form the prompt asked for.
        rewards: name of each part to its weight, e.g. {"accuracy": 1.0, "format": 1.0}.

    Returns:
        The Score. If nothing can be parsed, `reason` says why, `answer` is None, metrics are zeros, and each reward
        sees None.

    Raises:
        DataError: the gold answer cannot be used, or not by this reward.
        ConfigError: a reward is unknown (`check_rewards` finds that before training).
        ValueError: a reward function returned something that is not a finite number.
    """
    gold = task.gold(record)
    tagged = split_tags(text)
    parsed = _parse(text, tagged, task, template)
    value = task.to_pixels(parsed.value, frames, box_format) if isinstance(parsed, Parsed) else None
    given = RewardInput(text, tagged, template.thinking, value, gold, frames, record)
    functions = {name: _reward_function(name, record, task) for name in rewards}
    parts = {name: evaluate(name, function, given) for name, function in functions.items()}
    return Score(
        reward=weighted_sum(parts, rewards),
        parts=parts,
        answer=None if value is None else task.answer_json(value),
        reason=parsed.reason if isinstance(parsed, ParseFailure) else None,
        metrics=task.metrics(value, gold),
    )


def _parse(text: str, tagged: TaggedText, task: Task[Any], template: Template) -> Parsed[Any] | ParseFailure:
    """Find the answer and let the task read it. A text without tags is an answer only if no thinking was asked for."""
    bare = not template.thinking and tagged.tag_count == 0
    answer = text if bare else tagged.answer
    return ParseFailure("no_answer_tag") if answer is None else task.parse(answer)


def _reward_function(name: str, record: Record, task: Task[Any]) -> RewardFunction:
    return _resolve_reward((record.reward or task.reward) if name == ACCURACY else name)


@cache
def _resolve_reward(name: str) -> RewardFunction:
    return resolve("reward", name, REWARDS)


def check_rewards(rewards: Mapping[str, float], records: Iterable[Record]) -> None:
    """Resolve every task and reward that judging these records would need, before any training.

    Raises:
        ConfigError: an unknown task or reward (with the record that names it), or a weight that is not finite.
    """
    for name, weight in rewards.items():
        if not math.isfinite(weight):
            raise ConfigError(f"rewards.{name}: the weight is {weight}; wanted a finite number")
        if name != ACCURACY:
            _resolve_reward(name)
    first_user = {}
    for record in records:
        first_user.setdefault((record.task, record.reward), record)
    for record in first_user.values():
        try:
            _reward_function(ACCURACY, record, get_task(record.task))
        except ConfigError as error:
            raise ConfigError(f"{record.source}: {error}") from error


def check_gold(record: Record, frames: tuple[ImageFrame, ...]) -> None:
    """Check that a record's gold answer can be used, and that its boxes lie on the image.

    Raises:
        DataError: no usable gold answer, or a box that leaves its image by more than one pixel.
    """
    task = get_task(record.task)
    for box in task.boxes(task.gold(record)):
        width, height = frames[0].original_wh
        x1, y1, x2, y2 = box
        overshoot_px = max(-x1, -y1, x2 - width, y2 - height)
        if overshoot_px > _OUTSIDE_TOLERANCE_PX:
            raise DataError(
                f"{record.source}: the gold box {list(box)} reaches outside its image of {width} × {height} pixels; "
                "wanted x1, y1, x2, y2 in pixels of the original image, not normalised and not of a resized one"
            )
