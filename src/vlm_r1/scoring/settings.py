"""What a row is scored by: its reward, task, template and box format.

A row may come from a stranger. What it names is checked before anything is imported (docs/security.md).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vlm_r1.errors import ConfigError, DataError
from vlm_r1.registry import exactly, name_from_data, quoted
from vlm_r1.rewards.guard import REWARD_TIMEOUT_S
from vlm_r1.rewards.names import reward_from_data
from vlm_r1.tasks import TASKS, get_task
from vlm_r1.tasks.templates import TEMPLATES, Template, Templates
from vlm_r1.types import BoxFormat

Row = dict[str, Any]


@dataclass(frozen=True)
class RowSettings:
    """The settings by which a row is read and judged.

    Attributes:
        task: name of the task that reads the answer.
        reward: name in REWARDS.
        template: the form that was asked for. "direct" reads answers with or without tags, "r1" only those with tags.
        box_format: the coordinates of the model's boxes; None: they depend on the sizes in the row, see `Scoring`.
    """

    task: str
    reward: str
    template: str = "r1"
    box_format: BoxFormat | None = None


REWARD_SETTINGS: Mapping[str, RowSettings] = {
    # the reward functions of the original VLM-R1
    "rec_iou/qwen2.5-vl": RowSettings("rec", "iou", box_format=BoxFormat.INPUT_PIXELS),
    "rec_iou/raw_pixels": RowSettings("rec", "iou", box_format=BoxFormat.ORIGINAL_PIXELS),
    "rec_format/qwen": RowSettings("rec", "format"),
    "rec_format/internvl": RowSettings("rec", "format"),
    "rec_format/glm": RowSettings("rec", "format"),
    "format": RowSettings("vqa", "tags"),
    "repetition": RowSettings("ovd", "repetition", "direct"),
    "od_ap": RowSettings("ovd", "map"),
    "od_ap50": RowSettings("ovd", "ap50"),
    "od_length": RowSettings("ovd", "odlength"),
    "odLength": RowSettings("ovd", "odlength"),
    "weighted_sum": RowSettings("ovd", "weighted_sum", "direct"),
    "mcq": RowSettings("vqa", "choice", "direct"),
    "yes_no": RowSettings("vqa", "yes_no", "direct"),
    "numeric": RowSettings("vqa", "numeric", "direct"),
    "math": RowSettings("math", "math", "direct"),
    "all_match": RowSettings("vqa", "exact_match", "direct"),
    "default": RowSettings("vqa", "default", "direct"),
}


@dataclass(frozen=True)
class Scoring:
    """Settings for rows that do not have their own.

    Attributes:
        reward: a name of REWARDS or REWARD_SETTINGS, or `package.module:Name`; None: the task's own.
        task: name of a task; None: the task to which the reward belongs.
        template: name of a template; None: that of REWARD_SETTINGS, else "r1".
        box_format: the coordinates of the model's boxes in cases; None: that of REWARD_SETTINGS, else pixels of the
            processed image if its size is given, else pixels of the original image.
        official: whether the original's own functions score; then all other attributes except `reward` are ignored.
        weights: the components of the score and their weights, as in a recipe.
        combination: a name of COMBINATIONS.
        reward_timeout_s: how long each reward from outside may take for the rows that are judged together.
        templates: the templates of a recipe, or None.
        max_steps: the steps of the run that the rows come from, or of the recipe; None: not known.
        own_templates: the run's own templates, by the names that rows use.
        allowed_rewards, allowed_tasks, allowed_templates: what rows may name besides our own tables
            (`registry.name_from_data`).
    """

    reward: str | None = None
    task: str | None = None
    template: str | None = None
    box_format: BoxFormat | None = None
    official: bool = False
    weights: Mapping[str, float] = field(default_factory=lambda: {"accuracy": 1.0})
    combination: str = "sum"
    reward_timeout_s: float = REWARD_TIMEOUT_S
    templates: Templates | None = None
    max_steps: int | None = None
    own_templates: Mapping[str, Template] = field(default_factory=dict[str, Template])
    allowed_rewards: tuple[str, ...] = ()
    allowed_tasks: tuple[str, ...] = ()
    allowed_templates: tuple[str, ...] = ()


def reward_name(row: Row, scoring: Scoring) -> str | None:
    """Return the name of a row's reward.

    The reward that a case names goes first. In a logged row `reward` is a number; there the reward of `scoring` goes
    before the logged `reward_name`.

    >>> reward_name({"reward": "iou"}, Scoring("giou")), reward_name({"reward": 0.7}, Scoring("giou"))
    ('iou', 'giou')
    >>> reward_name({"reward": 0.7, "reward_name": "diou"}, Scoring())
    'diou'
    """
    own = row.get("reward")
    return own if isinstance(own, str) and own else scoring.reward or row.get("reward_name") or None


def check_names(source: str, row: Row) -> None:
    """Check that what names a reward, a task or a template in a row is a text; `reward` is a number in a logged row.

    Raises:
        DataError: it is something else.
    """
    for key in ("reward", "reward_name", "task", "template"):
        value = row.get(key)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not isinstance(value, str) and not (key == "reward" and is_number):
            raise DataError(f'{source}: "{key}" is {quoted(value)}; wanted a name, as a text')


def settings_of(source: str, row: Row, scoring: Scoring) -> RowSettings:
    """Return the settings of a row whose names are texts (`check_names`): its own, else those of `scoring`.

    Raises:
        DataError: the row names something that rows may not name.
        ConfigError: nothing says by which task the answer is to be read.
    """
    name = reward_name(row, scoring)
    try:
        reward = name if name is None or name in (*REWARD_SETTINGS, scoring.reward) else _reward(name, scoring)
        task = _named("task", row.get("task"), scoring.task, TASKS, scoring.allowed_tasks)
        known = REWARD_SETTINGS.get(reward or "") or RowSettings(_task_of(reward), reward or "")
        template = scoring.template or known.template
        if scoring.template is None and scoring.templates is None:
            mine = (*TEMPLATES, *scoring.own_templates)
            template = _named("template", row.get("template"), None, mine, scoring.allowed_templates) or template
    except DataError as error:
        raise DataError(f"{source}: {error}") from None
    task = task or known.task
    if not task:
        what = f"reward {quoted(name)} belongs to no task" if name else "no reward is named, and no task"
        raise ConfigError(
            f'{source}: {what}, so nothing says how the answer is to be read. Say --task, or "task" in the row, one of '
            f"{', '.join(TASKS)}"
        )
    return RowSettings(
        task=task,
        reward=known.reward or get_task(task).reward,
        template=template,
        box_format=scoring.box_format or known.box_format,
    )


def _reward(name: str, scoring: Scoring) -> str:
    return reward_from_data(name, (*scoring.allowed_rewards, *exactly([scoring.reward])))


def _named(kind: str, own: str | None, given: str | None, table: Collection[str], allowed: Sequence[str]) -> str | None:
    """Return what the row names, if it may; else what the command line gives, or None."""
    return given if not own or own == given else name_from_data(kind, own, table, allowed)


def _task_of(reward: str | None) -> str:
    """Return the task whose own reward has that name, or ""."""
    return next((name for name in TASKS if get_task(name).reward == reward), "")
