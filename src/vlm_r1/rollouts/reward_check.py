"""Calls each reward of a recipe on gold answers, before a model is loaded, to find rewards that can never work."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from vlm_r1.config.secrets import masked
from vlm_r1.data.images import image_size
from vlm_r1.data.sources import evenly
from vlm_r1.rewards.base import TrainerState
from vlm_r1.rollouts.env import Env
from vlm_r1.tasks import get_task
from vlm_r1.tasks.judge import Attempt
from vlm_r1.tasks.templates import gold_completion
from vlm_r1.types import BoxFormat, ImageFrame, Record, Score

_RECORDS_OF_A_KIND = 2
"""How many records are judged together, so that a function of TRL's signature gets more than one."""


def call_rewards(sets: Sequence[Sequence[Record]], env: Env, max_steps: int) -> list[str]:
    """Judge gold answers with the recipe's rewards; see `judge_gold`.

    Returns:
        A line that says how many gold answers were judged, and one for each component that left all of them out.

    Raises:
        RewardError, ConfigError, DataError: see `judge_gold`.
    """
    scores = judge_gold(sets, env, max_steps)
    silent = [
        name for name in map(masked, env.rewards) if scores and all(score.parts[name] is None for score in scores)
    ]
    return [
        f"rewards called on {len(scores)} gold answers",
        *(f'warning: the component "{name}" left out (None) all of these gold answers' for name in silent),
    ]


def judge_gold(sets: Sequence[Sequence[Record]], env: Env, max_steps: int) -> list[Score]:
    """Judge gold answers with the recipe's rewards: of the first two records of each file, task and accuracy reward.

    Raises:
        RewardError: a reward raised, took too long, or returned something that is no reward.
        ConfigError: an option of a reward has a value that makes no sense.
        DataError: a gold answer is of a kind that its reward cannot compare.
    """
    chosen: dict[tuple[str, str, str | None], list[Record]] = {}
    for record in (record for records in sets for record in evenly(records)):
        file = record.source.rpartition(":")[0]
        alike = chosen.setdefault((file, record.task, record.reward), [])
        if len(alike) < _RECORDS_OF_A_KIND:
            alike.append(record)
    state = TrainerState(0, max_steps)
    attempts = [_gold_attempt(record, env, state) for alike in chosen.values() for record in alike]
    return env.judge_attempts(attempts, BoxFormat.ORIGINAL_PIXELS)


def _gold_attempt(record: Record, env: Env, state: TrainerState) -> Attempt:
    """Return what a perfect model writes, ready to be judged. Images are measured by their headers."""
    task, template = get_task(record.task), env.templates.of(record)
    frames = tuple(ImageFrame(wh, wh) for wh in (image_size(path, env.access) for path in record.images))
    text = gold_completion(task, record, frames, BoxFormat.ORIGINAL_PIXELS, template)
    ids = tuple(env.adapter.tokenize(text))
    return Attempt(
        text,
        record,
        frames,
        task,
        template,
        len(ids),
        completion_ids=ids,
        trainer_state=state,
        load_images=partial(env.load_images, record),
    )
