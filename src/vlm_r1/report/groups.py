"""A sample of the run's groups for the page: the choice of groups, their boxes, and the scores of completions."""

# pyright: standard

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from vlm_r1.data.access import NOWHERE, Access
from vlm_r1.parsing.messages import split_context
from vlm_r1.registry import is_outside
from vlm_r1.report.drawing import (
    LABEL_LIMIT,
    DrawnBox,
    DrawnImage,
    as_text,
    boxes_of,
    draw,
    first_image,
    placed_gold,
    shown_images,
)
from vlm_r1.report.excerpt import Excerpt, context_of, excerpt, visible
from vlm_r1.report.figures import number
from vlm_r1.report.images import EXACT_SIDE_PX, FETCHING_S, data_url
from vlm_r1.rewards.names import short_names
from vlm_r1.runtime.rollout_log import RolloutRow, read_rollouts
from vlm_r1.tasks import TASKS
from vlm_r1.types import Record

GROUPS_PER_STEP = 4
MAX_COMPLETIONS = 16  # completions of one group that are shown
TEXT_LIMIT = 2000  # characters of one completion that are shown

# The plasma colour map from 0.3 to 1 in tenths: lightness rises evenly, also for colour-blind people.
_PLASMA = ("8f0da4", "b12a90", "cc4778", "e16462", "f2844b", "fca636", "fcce25", "f0f921")


@dataclass(frozen=True)
class Scale:
    """A scale from rewards, `low` to `high`, to colours, violet to yellow."""

    low: float
    high: float

    def colour(self, reward: float) -> str:
        """Return the colour of a reward, clipped to the scale; grey if it is not finite.

        >>> Scale(0, 2).colour(0), Scale(0, 2).colour(2), Scale(0, 2).colour(1)
        ('#8f0da4', '#f0f921', '#ea7456')
        """
        if not math.isfinite(reward):
            return "#888888"
        place = min(max((reward - self.low) / (self.high - self.low), 0.0), 1.0) * (len(_PLASMA) - 1)
        index = min(int(place), len(_PLASMA) - 2)
        pairs = zip(bytes.fromhex(_PLASMA[index]), bytes.fromhex(_PLASMA[index + 1]), strict=True)
        return "#" + "".join(f"{round(a + (b - a) * (place - index)):02x}" for a, b in pairs)

    @property
    def stops(self) -> list[str]:
        """Return the colours of the scale in order, for a legend."""
        return [f"#{colour}" for colour in _PLASMA]


@dataclass(frozen=True)
class ShownCompletion:
    """One completion; `index` is its place in the group, from 0; `parts` are the reward components, (name, value)."""

    index: int
    reward: str
    colour: str
    parts: tuple[tuple[str, str], ...]
    advantage: str
    answer: Excerpt | None
    reason: str | None
    text: Excerpt
    tokens: int
    truncated: bool


@dataclass(frozen=True)
class ShownGroup:
    """One record with its completions, the best reward first; `note` says what is not shown, or is empty."""

    index: int
    record_id: str
    source: str
    task: str
    problem: str
    context: Excerpt | None
    gold: Excerpt
    images: tuple[DrawnImage, ...]
    images_left_out: int
    completions: tuple[ShownCompletion, ...]
    completions_left_out: int
    note: str


@dataclass(frozen=True)
class ShownStep:
    """Some groups of a step; `n_groups` and `mean_reward` are of all of them."""

    step: int
    n_groups: int
    mean_reward: str
    groups: tuple[ShownGroup, ...]


def show_steps(
    rollouts: Mapping[int, Path], access: Access = NOWHERE, allowed_tasks: Sequence[str] = ()
) -> tuple[tuple[ShownStep, ...], Scale]:
    """Lay out groups of the first, a middle and the last step among those with rollout files.

    Args:
        rollouts: step → its Parquet file.
        access: remote images that may be fetched, for `FETCHING_S` in all.
        allowed_tasks: tasks beside `TASKS` that may be imported and asked where gold boxes lie. The names of tasks in
            rollouts may come from a stranger.

    Returns:
        The steps in order, and one colour scale for all of them.

    Raises:
        CheckpointError: a file is damaged.
    """
    access = replace(access, until=min(access.until, time.monotonic() + FETCHING_S))
    steps = sorted(rollouts)
    chosen = sorted({steps[0], steps[len(steps) // 2], steps[-1]}) if steps else []
    groups_by_step = {step: _groups(read_rollouts(rollouts[step])) for step in chosen}
    scale = _scale([row for groups in groups_by_step.values() for group in _pick(groups) for row in group])
    tasks = {*TASKS, *allowed_tasks}
    shown = [_show_step(step, groups, scale, access, tasks) for step, groups in groups_by_step.items() if groups]
    return tuple(shown), scale


def _groups(rows: Sequence[RolloutRow]) -> list[list[RolloutRow]]:
    return [list(rows) for _, rows in itertools.groupby(rows, key=lambda row: row.group)]


def _pick(groups: Sequence[list[RolloutRow]]) -> list[list[RolloutRow]]:
    """Choose the first few groups in file order; groups with different rewards go before those with equal ones."""
    return sorted(groups, key=lambda rows: len({row.reward for row in rows if _has_reward(row)}) <= 1)[:GROUPS_PER_STEP]


def _has_reward(row: RolloutRow) -> bool:
    """Return whether a completion has a reward; all components may have left it out."""
    return math.isfinite(row.reward)


def _rank(row: RolloutRow) -> float:
    return row.reward if _has_reward(row) else -math.inf


def _scale(rows: Sequence[RolloutRow]) -> Scale:
    """Make the scale of the rewards of parsed answers; others draw no boxes, and would leave the boxes few colours."""
    finite = [row.reward for row in rows if _has_reward(row)]
    parsed = [row.reward for row in rows if _has_reward(row) and row.reason is None]
    low, high = min(parsed or finite, default=0.0), max(parsed or finite, default=1.0)
    return Scale(low, high) if high > low else Scale(low, low + 1)


def _show_step(
    step: int, groups: Sequence[list[RolloutRow]], scale: Scale, access: Access, tasks: Set[str]
) -> ShownStep:
    rewards = [row.reward for rows in groups for row in rows if _has_reward(row)]
    shown = tuple(_show_group(rows, scale, access, tasks) for rows in _pick(groups))
    mean = sum(rewards) / len(rewards) if rewards else math.nan
    return ShownStep(step, len(groups), number(mean, decimals=2), shown)


def _show_group(rows: Sequence[RolloutRow], scale: Scale, access: Access, tasks: Set[str]) -> ShownGroup:
    first, shown = rows[0], rows[:MAX_COMPLETIONS]
    drawn = list(_drawn(shown, scale, tasks))
    images = tuple(_show_image(first, index, drawn, access) for index in shown_images(len(first.images), drawn))
    return ShownGroup(
        index=first.group,
        record_id=visible(first.record_id[:LABEL_LIMIT]),
        source=visible(first.source[:LABEL_LIMIT]),
        task=visible(first.task[:LABEL_LIMIT]),
        problem=visible(" ".join(first.problem.replace("<image>", " ")[:LABEL_LIMIT].split())),
        context=context_of(first.context),
        gold=excerpt(as_text(first.gold), LABEL_LIMIT),
        images=images,
        images_left_out=len(first.images) - len(images),
        completions=tuple(_show_completion(row, scale) for row in sorted(shown, key=lambda row: -_rank(row))),
        completions_left_out=len(rows) - len(shown),
        note="" if len(first.images) < 2 or first.task in tasks else _unknown_task(first.task),
    )


def _unknown_task(name: str) -> str:
    how = f" (code is run only if you allow it: --allow-task {name})" if name.isascii() and is_outside(name) else ""
    return visible(
        f"gold boxes lie on the image that they name, else on the first: task {name[:LABEL_LIMIT]} was not asked{how}"
    )


def _drawn(rows: Sequence[RolloutRow], scale: Scale, tasks: Set[str]) -> Iterator[tuple[int, DrawnBox]]:
    """Yield all boxes of a group, each with the index of its image: the best reward comes late, the gold boxes last."""
    first, n_images = rows[0], len(rows[0].images)
    if not n_images:
        return
    for row in sorted(rows, key=_rank):
        answer = None if isinstance(row.answer, str) else row.answer  # numbers in a text are no boxes
        yield from draw(
            boxes_of(answer, first_image(_record(first))), n_images, row.completion, scale.colour(row.reward)
        )
    yield from draw(placed_gold(_record(first), tasks), n_images)


def _record(row: RolloutRow) -> Record:
    system, history = split_context(row.context)
    return Record(row.record_id, row.task, row.problem, row.images, row.gold, system=system, history=history)


def _show_image(row: RolloutRow, index: int, drawn: Iterable[tuple[int, DrawnBox]], access: Access) -> DrawnImage:
    width, height = row.image_sizes[index]
    url = data_url(row.images[index], 640 if len(row.images) == 1 else 360, access)
    boxes = tuple(box for image, box in drawn if image == index)
    return DrawnImage(url, width, height, max(width, height) <= EXACT_SIDE_PX, boxes)


def _show_completion(row: RolloutRow, scale: Scale) -> ShownCompletion:
    short = short_names(row.parts)
    return ShownCompletion(
        index=row.completion,
        reward=number(row.reward, decimals=2),
        colour=scale.colour(row.reward),
        parts=tuple((visible(short[name][:LABEL_LIMIT]), number(n, decimals=2)) for name, n in row.parts.items()),
        advantage=f"{row.advantage:+.2f}".replace("-", "−"),
        answer=None if row.answer is None else excerpt(as_text(row.answer), LABEL_LIMIT),
        reason=None if row.reason is None else visible(row.reason[:LABEL_LIMIT]),
        text=excerpt(row.text, TEXT_LIMIT),
        tokens=row.tokens,
        truncated=row.stop_reason == "length",
    )
