"""The one judging function: training, evaluation, re-scoring and data checks all call `judge`, or many at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from vlm_r1.errors import ConfigError, DataError
from vlm_r1.parsing.tags import answer_text, split_tags
from vlm_r1.rewards import COMBINATIONS, REWARDS, RewardInput
from vlm_r1.rewards.call import Reward, evaluate, resolve_reward
from vlm_r1.tasks import get_task
from vlm_r1.tasks.base import Task
from vlm_r1.tasks.templates import Template
from vlm_r1.types import BoxFormat, ImageFrame, Parsed, ParseFailure, Record, Score

ACCURACY = "accuracy"
"""The part that stands for the reward of the record, of its source, or of its task, in this order."""

_OUTSIDE_TOLERANCE_PX = 1.0  # annotation tools that count pixels inclusively write boxes one pixel too wide


@dataclass(frozen=True)
class Attempt:
    """One completion to be judged.

    Attributes:
        text: what the model wrote.
        record: the question and its gold answer.
        frames: one for each image of the record.
        task: reads and measures the answer.
        template: which form the prompt asked for.
        n_tokens: tokens of the completion; None where nobody counted them (rewards of length need them).
    """

    text: str
    record: Record
    frames: tuple[ImageFrame, ...]
    task: Task[Any, Any]
    template: Template
    n_tokens: int | None = None


def judge(
    attempts: Sequence[Attempt], box_format: BoxFormat, rewards: Mapping[str, float], combination: str = "sum"
) -> list[Score]:
    """Read completions, compare them with their gold answers, and combine the rewards.

    Args:
        attempts: any texts at all give Scores, in time linear in their length.
        box_format: the coordinates in which the model writes boxes.
        rewards: name of each part (with options, see `rewards.call`) to its weight, e.g. {"accuracy": 1.0}.
        combination: a name of COMBINATIONS.

    Returns:
        A Score for each attempt. If nothing can be parsed, `reason` says why, `answer` is None, metrics are zeros, and
        each reward sees None.

    Raises:
        DataError: a gold answer cannot be used, or not by this reward.
        ConfigError: a reward is unknown (`check_rewards` finds that before training).
        ValueError: a reward function returned something that is not a finite number.
    """
    one_of_each = {id(attempt.record): attempt for attempt in attempts}  # a group's completions share their gold answer
    golds = {key: attempt.task.gold(attempt.record) for key, attempt in one_of_each.items()}
    specs = {spec for name in rewards for spec in _by_function(name, attempts)}
    if any(map(_waits_for_all, specs)):
        return _judge_together(attempts, golds, box_format, rewards, combination)
    # one after another: rewards and metrics of a detection answer share their overlaps
    return [score for one in attempts for score in _judge_together([one], golds, box_format, rewards, combination)]


def _judge_together(
    attempts: Sequence[Attempt],
    golds: Mapping[int, Any],
    box_format: BoxFormat,
    rewards: Mapping[str, float],
    combination: str,
) -> list[Score]:
    readings = [_read(attempt, golds[id(attempt.record)], box_format) for attempt in attempts]
    givens = [given for given, _ in readings]
    parts_N: list[dict[str, float]] = [dict.fromkeys(rewards, 0.0) for _ in attempts]
    for name in sorted(rewards, key=lambda name: name != ACCURACY):  # accuracy first: others may build on it
        for spec, members in _by_function(name, attempts).items():
            values = evaluate(name, _resolve_reward(spec), [givens[i] for i in members])
            for i, value in zip(members, values, strict=True):
                parts_N[i][name] = givens[i].parts[name] = value
    combine = COMBINATIONS[combination]
    return [
        Score(
            reward=combine(parts, rewards),
            parts=parts,
            answer=None if given.value is None else attempt.task.answer_json(given.value),
            reason=reason,
            metrics=attempt.task.metrics(given.value, given.gold),
        )
        for attempt, (given, reason), parts in zip(attempts, readings, parts_N, strict=True)
    ]


def _read(attempt: Attempt, gold: Any, box_format: BoxFormat) -> tuple[RewardInput[Any], str | None]:
    """What the rewards are given, and why nothing could be parsed."""
    task, frames = attempt.task, attempt.frames
    tagged = split_tags(attempt.text)
    answer = answer_text(attempt.text, tagged, attempt.template.thinking)
    parsed = ParseFailure("no_answer_tag") if answer is None else task.parse(answer, attempt.record)
    value = task.to_pixels(parsed.value, frames, box_format) if isinstance(parsed, Parsed) else None
    given = RewardInput(
        attempt.text,
        tagged,
        attempt.template.thinking,
        value,
        gold,
        frames,
        attempt.record,
        attempt.n_tokens,
        image=task.image,
    )
    return given, parsed.reason if isinstance(parsed, ParseFailure) else None


def _by_function(name: str, attempts: Sequence[Attempt]) -> dict[str, list[int]]:
    """Which attempts a part is computed for by which reward: one for all, but for the accuracy."""
    if name != ACCURACY:
        return {name: list(range(len(attempts)))}
    members: dict[str, list[int]] = {}
    for i, attempt in enumerate(attempts):
        members.setdefault(attempt.record.reward or attempt.task.reward, []).append(i)
    return members


def _waits_for_all(spec: str) -> bool:
    reward = _resolve_reward(spec)
    return reward.takes_columns or reward.is_async


@cache
def _resolve_reward(name: str) -> Reward:
    return resolve_reward(name, REWARDS)


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
            _resolve_reward(record.reward or get_task(record.task).reward)
        except ConfigError as error:
            raise ConfigError(f"{record.source}: {error}") from error


def check_gold(record: Record, frames: tuple[ImageFrame, ...]) -> None:
    """Check that a record's gold answer can be used, and that its boxes lie on the image.

    Raises:
        DataError: no usable gold answer, or a box that leaves its image by more than one pixel.
    """
    task = get_task(record.task)
    for box in task.boxes(task.gold(record)):
        width, height = frames[task.image].original_wh
        x1, y1, x2, y2 = box
        overshoot_px = max(-x1, -y1, x2 - width, y2 - height)
        if overshoot_px > _OUTSIDE_TOLERANCE_PX:
            raise DataError(
                f"{record.source}: the gold box {list(box)} reaches outside its image of {width} × {height} pixels; "
                "wanted x1, y1, x2, y2 in pixels of the original image, not normalised and not of a resized one"
            )
