"""The only judging function: training, evaluation, re-scoring and data checks all call `judge`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from vlm_r1.config.secrets import masked
from vlm_r1.errors import ConfigError, DataError
from vlm_r1.parsing.tags import TaggedText, answer_text, split_tags
from vlm_r1.rewards import COMBINATIONS, REWARDS, RewardInput
from vlm_r1.rewards.base import UNTRAINED, TrainerState
from vlm_r1.rewards.call import COLUMNS, Logged, Reward, call_reward, resolve_reward
from vlm_r1.rewards.guard import REWARD_TIMEOUT_S, TimeLimit
from vlm_r1.rewards.signature import ADAPTERS_PAGE, PROTOCOL
from vlm_r1.tasks import get_task
from vlm_r1.tasks.base import Task
from vlm_r1.tasks.boxes import check_image
from vlm_r1.tasks.templates import Template
from vlm_r1.types import BoxFormat, ImageFrame, ParseFailure, PlacedBox, Record, Score

ACCURACY = "accuracy"
"""The component that is computed by the reward of the record, else of its source, else of its task."""

_OUTSIDE_TOLERANCE_PX = 1.0  # annotation tools that count pixels inclusively write boxes one pixel too wide


@dataclass(frozen=True)
class Attempt:
    """One completion to be judged.

    Attributes:
        text: the text of the completion.
        record: the question and its gold answer.
        frames: a frame for each image of the record.
        task: the task that reads and measures the answer.
        template: the template of the prompt, which sets the form of the answer.
        n_tokens: number of tokens of the completion; None: not counted (rewards of length need it).
        completion_ids: the token ids; None: there are none.
        trainer_state: the progress of training.
        load_images: opens the record's pictures for a reward that looks at them; None: they cannot be opened here.
    """

    text: str
    record: Record
    frames: tuple[ImageFrame, ...]
    task: Task[Any, Any]
    template: Template
    n_tokens: int | None = None
    completion_ids: tuple[int, ...] | None = None
    trainer_state: TrainerState = UNTRAINED
    load_images: Callable[[], Sequence[Any]] | None = None


class Reading(NamedTuple):
    """What was read from a completion.

    Attributes:
        tagged: its text, split at its tags.
        value: the answer, boxes and points in pixels of the original images; None: nothing could be read.
        reason: why nothing could be read; None if something was.
    """

    tagged: TaggedText
    value: Any
    reason: str | None


def read_answer(attempt: Attempt, box_format: BoxFormat) -> Reading:
    """Read the answer of an attempt; its gold answer is not used.

    Args:
        box_format: the coordinates in which the model writes boxes.
    """
    task, tagged = attempt.task, split_tags(attempt.text)
    answer = answer_text(attempt.text, tagged, attempt.template.thinking)
    parsed = ParseFailure("no_answer_tag") if answer is None else task.parse(answer, attempt.record)
    if isinstance(parsed, ParseFailure):
        return Reading(tagged, None, parsed.reason)
    return Reading(tagged, task.to_pixels(parsed.value, attempt.frames, box_format), None)


def byte_ids(text: str) -> tuple[int, ...]:
    """Return the bytes of a text, as a substitute for token ids if no tokenizer is loaded."""
    return tuple(text.encode("utf-8", "replace"))


def judge(
    attempts: Sequence[Attempt],
    box_format: BoxFormat,
    rewards: Mapping[str, float],
    combination: str = "sum",
    logged: Logged | None = None,
    *,
    timeout_s: float = REWARD_TIMEOUT_S,
) -> list[Score]:
    """Read completions, compare them with their gold answers, and combine the rewards.

    Args:
        attempts: any text yields a Score, in time linear in its length.
        box_format: the coordinates in which the model writes boxes.
        rewards: name of each component (with options, see `rewards.signature`) → weight, e.g. {"accuracy": 1.0}.
        combination: a name of COMBINATIONS.
        logged: collects the metrics that rewards log; None: they are dropped.
        timeout_s: how long each reward function from outside may take for all these attempts.

    Returns:
        A Score for each attempt. If nothing can be parsed, `reason` says why, `answer` is None, metrics are zeros, and
        each reward gets None. A component that leaves an attempt out is None; if all do, the reward is None too.
        Secrets in the names of components are masked.

    Raises:
        DataError: a gold answer cannot be used, or does not suit the reward.
        ConfigError: a reward is unknown (`check_rewards` finds that before training).
        RewardError: a reward function from outside raised, took too long, or returned something that is not a finite
            number.
        ValueError: one of our reward functions returned something that is not a finite number.
    """
    one_of_each = {id(attempt.record): attempt for attempt in attempts}  # a group's completions share their gold answer
    golds = {key: attempt.task.gold(attempt.record) for key, attempt in one_of_each.items()}
    specs = {spec for name in rewards for spec in _by_function(name, attempts)}
    resolved = [_resolve_reward(spec) for spec in specs]
    together = any(reward.takes_columns or reward.is_async or reward.takes_batch for reward in resolved)
    # one by one unless a reward needs all at once: reward and metrics of a detection answer then share cached overlaps
    batches = [attempts] if together else [[attempt] for attempt in attempts]
    limit, logged = TimeLimit(timeout_s), Logged() if logged is None else logged
    scores = [_judge_together(batch, golds, box_format, rewards, combination, logged, limit) for batch in batches]
    return [score for some in scores for score in some]


def _judge_together(
    attempts: Sequence[Attempt],
    golds: Mapping[int, Any],
    box_format: BoxFormat,
    rewards: Mapping[str, float],
    combination: str,
    logged: Logged,
    limit: TimeLimit,
) -> list[Score]:
    readings = [_read(attempt, golds[id(attempt.record)], box_format) for attempt in attempts]
    givens = [given for given, _ in readings]
    parts_N: list[dict[str, float | None]] = [dict.fromkeys(rewards, 0.0) for _ in attempts]
    for name in sorted(rewards, key=lambda name: name != ACCURACY):  # accuracy first: others may use it
        start = time.perf_counter()
        for spec, members in _by_function(name, attempts).items():
            values = call_reward(spec, _resolve_reward(spec), [givens[i] for i in members], logged, limit)
            for i, value in zip(members, values, strict=True):
                parts_N[i][name] = givens[i].parts[name] = value
        logged.seconds[name] = logged.seconds.get(name, 0.0) + time.perf_counter() - start
    for given in givens:
        for name, count in given.counts.items():
            logged.counts[name] += count
    combine = COMBINATIONS[combination]
    return [
        Score(
            reward=combine(parts, rewards) if any(part is not None for part in parts.values()) else None,
            parts={masked(name): part for name, part in parts.items()},
            answer=None if given.value is None else attempt.task.answer_json(given.value),
            reason=reason,
            metrics=attempt.task.metrics(given.value, given.gold),
            extra=given.extra,
        )
        for attempt, (given, reason), parts in zip(attempts, readings, parts_N, strict=True)
    ]


def _read(attempt: Attempt, gold: Any, box_format: BoxFormat) -> tuple[RewardInput[Any], str | None]:
    """Read an attempt; returns the input of the rewards, and the reason if nothing could be parsed."""
    task, (tagged, value, reason) = attempt.task, read_answer(attempt, box_format)
    given = RewardInput(
        attempt.text,
        tagged,
        attempt.template.thinking,
        value,
        gold,
        attempt.frames,
        attempt.record,
        attempt.n_tokens,
        gold_boxes=task.boxes(gold),
        completion_ids=attempt.completion_ids,
        trainer_state=attempt.trainer_state,
        load_images=attempt.load_images,
    )
    return given, reason


def _by_function(name: str, attempts: Sequence[Attempt]) -> dict[str, list[int]]:
    """Map the rewards that compute a component to the indices of their attempts; only the accuracy may have several."""
    if name != ACCURACY:
        return {name: list(range(len(attempts)))}
    members: dict[str, list[int]] = {}
    for i, attempt in enumerate(attempts):
        members.setdefault(attempt.record.reward or attempt.task.reward, []).append(i)
    return members


@cache
def _resolve_reward(name: str) -> Reward:
    return resolve_reward(name, REWARDS)


def takes_token_ids(record: Record) -> bool:
    """Return whether the reward for a record's accuracy has a parameter for token ids."""
    return "completion_ids" in _resolve_reward(record.reward or get_task(record.task).reward).named


def check_rewards(rewards: Mapping[str, float], records: Iterable[Record]) -> None:
    """Check before training that every task and reward for judging these records exists and can be called.

    Raises:
        ConfigError: a task or reward is unknown (the message names the record), a weight is not finite, or a reward
            takes a column which no line of its records has.
    """
    for name, weight in rewards.items():
        if not math.isfinite(weight):
            raise ConfigError(f"rewards.{name}: the weight is {weight}; wanted a finite number")
        if name != ACCURACY:
            _resolve_reward(name)
    first_user: dict[tuple[str, str | None], Record] = {}
    columns: dict[tuple[str, str | None], set[str]] = {}
    for record in records:
        key = (record.task, record.reward)
        first_user.setdefault(key, record)
        columns.setdefault(key, set()).update(record.row, record.columns)
    users: dict[str, set[str]] = {}
    for key, record in first_user.items():
        try:
            spec = record.reward or get_task(record.task).reward
            _resolve_reward(spec)
        except ConfigError as error:
            raise ConfigError(f"{record.source}: {error}") from error
        users.setdefault(spec, set()).update(columns[key])
    everywhere = set[str]().union(*columns.values())
    users |= {name: everywhere for name in rewards if name != ACCURACY}
    for spec, found in users.items() if first_user else ():
        _check_columns(spec, found)


def _check_columns(name: str, found: Set[str]) -> None:
    """Refuse a reward of TRL's signature that takes a column which no line has, since it is for other data."""
    reward = _resolve_reward(name)
    known = {*COLUMNS, *PROTOCOL, *found}
    missing = [column for column in reward.required if reward.takes_columns and column not in known]
    if missing and found:
        raise ConfigError(
            f'reward "{name}" takes "{missing[0]}", and no line of its data has that key; got '
            f"{', '.join(sorted(found)[:20])}, and beside them {', '.join(COLUMNS)}. Other signatures: {ADAPTERS_PAGE}"
        )


def check_gold(record: Record, frames: tuple[ImageFrame, ...]) -> None:
    """Check that a record's gold answer can be used, and that its boxes lie on their images.

    Raises:
        DataError: the gold answer cannot be used, an image is not there, or a box leaves its image by more than one
            pixel.
    """
    task = get_task(record.task)
    boxes = task.boxes(task.gold(record))
    if bare := [box for box in boxes if not isinstance(box, PlacedBox)]:
        raise ConfigError(
            f"{record.source}: boxes() of task {record.task} gave {bare[0]!r}; wanted PlacedBox(box, image), which "
            "says on which image a box lies (docs/add_a_task.md)"
        )
    for box, image in boxes:
        check_image(record, image)
        width, height = frames[image].original_wh
        x1, y1, x2, y2 = box
        overshoot_px = max(-x1, -y1, x2 - width, y2 - height)
        if overshoot_px > _OUTSIDE_TOLERANCE_PX:
            where = f" on image {image}" if len(frames) > 1 else ""
            raise DataError(
                f"{record.source}: the gold box {list(box)}{where} reaches outside its image of {width} × {height} "
                "pixels; wanted x1, y1, x2, y2 in pixels of the original image, not normalised and not of a resized one"
            )
