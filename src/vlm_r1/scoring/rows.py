"""Scoring of completions in files: test cases, a run's rollouts, the samples of an evaluation.

A row is scored by the same `judge` as in training, or by the original's own functions (`official`). The keys of a row
tell its kind:

* Cases have `completion` and `solution`, and `image_size` and `model_input_size` if boxes must be converted.
* Logged rows (docs/runs.md), i.e. rollouts and samples, have `text` and `gold`. They also hold the sizes of the images,
  the sizes at which the model saw them, the coordinates in which it writes, and the template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from vlm_r1.data.options import read_options
from vlm_r1.errors import ConfigError, DataError
from vlm_r1.official import OFFICIAL, official_score
from vlm_r1.parsing.choices import options_in_problem
from vlm_r1.parsing.json_values import is_list
from vlm_r1.parsing.options import OPTIONS
from vlm_r1.registry import suggestion
from vlm_r1.rewards.base import TRAINED, TrainerState
from vlm_r1.rewards.guard import REWARD_TIMEOUT_S
from vlm_r1.tasks import TASKS, get_task
from vlm_r1.tasks.judge import Attempt, check_rewards, judge
from vlm_r1.tasks.templates import Template, Templates, make_templates
from vlm_r1.types import AnswerValue, BoxFormat, ImageFrame, Record

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

_WITHOUT_GOLD: Mapping[str, AnswerValue] = {"rec": [0, 0, 1, 1], "ovd": [], "vqa": "?", "math": "0"}
"""Gold answers for cases that have none. They are used only with `_FORM_REWARDS`, which do not read them."""

_LEFT_OUT = "every reward leaves this row out (None)"

_SIZES = ("image_size", "model_input_size")
_FORM_REWARDS = ("format", "tags", "json_format", "one_answer", "repetition")
_UNKNOWN_WH = (1024, 1024)  # size of an image if no conversion needs it; with a power of two nothing is rounded


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


@dataclass(frozen=True)
class RowScore:
    """The score of a row, or the reason why it has none.

    There are three reasons: its gold answer cannot be used, its rewards leave it out, or the original function fails.
    """

    score: float | None
    reason: str | None = None


def check_row(source: str, row: Row, scoring: Scoring) -> None:
    """Check that a row can be scored: its keys, and the names of its reward, task and template.

    Args:
        source: file and line of the row, e.g. "cases.jsonl:7".

    Raises:
        DataError: a key is missing or of the wrong type.
        ConfigError: a reward, task or template is unknown.
    """
    if not _is_case(row) and not isinstance(row.get("text"), str):
        raise DataError(
            f'{source}: no text to score; wanted the key "completion" (and "solution"), or "text" and "gold"; '
            f"got the keys {', '.join(row) or '(none)'}"
        )
    if not _is_case(row) and "gold" not in row:
        raise DataError(f'{source}: the key "gold" is missing')
    for key in _SIZES:
        _sizes(source, key, row.get(key))
    if scoring.official:
        _check_official(source, reward_name(row, scoring))
        return
    settings = _settings(source, row, scoring)
    looked_up = scoring.templates is None and settings.template not in scoring.own_templates
    trusted = settings.reward == scoring.reward
    _check_names(settings.task, settings.reward, settings.template, looked_up, trusted)


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
    return own if isinstance(own, str) else scoring.reward or row.get("reward_name")


def score_rows(rows: Sequence[tuple[str, Row]], scoring: Scoring) -> list[RowScore]:
    """Score rows that have passed `check_row`, given with their sources; every completion gets a score.

    Raises:
        ConfigError: an option of a reward is wrong.
        ValueError: a reward function returned something that is not a finite number.
    """
    if scoring.official:
        return [_official(source, row, scoring) for source, row in rows]
    scores: dict[int, RowScore] = {}
    ready: dict[BoxFormat, dict[int, Attempt]] = {}
    for i, (source, row) in enumerate(rows):
        try:
            attempt, box_format = _attempt(source, row, scoring)
            ready.setdefault(box_format, {})[i] = attempt
        except DataError as error:
            scores[i] = RowScore(None, str(error))
    for box_format, attempts in ready.items():
        scores |= zip(attempts, _judge(list(attempts.values()), box_format, scoring), strict=True)
    return [scores[i] for i in range(len(rows))]


def _judge(attempts: Sequence[Attempt], box_format: BoxFormat, scoring: Scoring) -> list[RowScore]:
    """Judge all at once, for rewards that wait for a server; one by one if a gold answer does not suit its reward."""
    try:
        scores = judge(attempts, box_format, scoring.weights, scoring.combination, timeout_s=scoring.reward_timeout_s)
    except DataError as error:
        if len(attempts) == 1:
            return [RowScore(None, str(error))]
        return [score for attempt in attempts for score in _judge([attempt], box_format, scoring)]
    return [
        RowScore(score.reward, None if score.reward is not None else f"{attempt.record.source}: {_LEFT_OUT}")
        for attempt, score in zip(attempts, scores, strict=True)
    ]


def _official(source: str, row: Row, scoring: Scoring) -> RowScore:
    text, gold = (row["completion"], row.get("solution")) if _is_case(row) else (row["text"], row["gold"])
    name = str(reward_name(row, scoring))
    sizes = [next(iter(_sizes(source, key, row.get(key))), None) for key in _SIZES]
    score = official_score(name, text, gold, *sizes)
    return RowScore(score, None if score is not None else f'{source}: the original\'s "{name}" returns nothing here')


# ---- the settings of a row ------------------------------------------------------------------------------------------


def _is_case(row: Row) -> bool:
    return isinstance(row.get("completion"), str)


def _settings(source: str, row: Row, scoring: Scoring) -> RowSettings:
    name, own = reward_name(row, scoring), row.get("task")
    task = own if isinstance(own, str) and own else scoring.task
    known = REWARD_SETTINGS.get(name or "") or RowSettings(_task_of(name), name or "")
    if not (task or known.task):
        if name is not None:
            check_rewards({name: 1.0}, [])
        what = f'reward "{name}" belongs to no task' if name else "no reward is named, and no task"
        raise ConfigError(
            f'{source}: {what}, so nothing says how the answer is to be read. Say --task, or "task" in the row, one of '
            f"{', '.join(TASKS)}"
        )
    task = task or known.task
    return RowSettings(
        task=task,
        reward=known.reward or get_task(task).reward,
        template=scoring.template or row.get("template") or known.template,
        box_format=scoring.box_format or known.box_format,
    )


def _task_of(reward: str | None) -> str:
    """Return the task whose own reward has that name, or ""."""
    return next((name for name in TASKS if get_task(name).reward == reward), "")


@cache
def _check_names(task: str, reward: str, template: str, template_matters: bool, trusted: bool) -> None:
    get_task(task)
    record = Record("", task, "", (), None, reward=reward, source="--reward", trusted_reward=trusted)
    check_rewards({"accuracy": 1.0}, [record])
    if template_matters:
        _templates(template)


@cache
def _templates(name: str) -> Templates:
    return make_templates(name)


def _check_official(source: str, name: str | None) -> None:
    if name not in OFFICIAL:
        what = f'"{name}"' if name else "that is not named"
        raise ConfigError(
            f"{source}: the original has no reward {what}. {suggestion(name or '', OFFICIAL)}Known: "
            f"{', '.join(sorted(OFFICIAL))}"
        )


def _attempt(source: str, row: Row, scoring: Scoring) -> tuple[Attempt, BoxFormat]:
    """Make the attempt that `judge` takes; DataError if the gold answer or the sizes of the row cannot be used."""
    settings = _settings(source, row, scoring)
    task, tokens = get_task(settings.task), row.get("tokens")
    if _is_case(row):
        text, frames, box_format = row["completion"], *_frames(source, row, settings.box_format)
        gold = row["solution"] if "solution" in row else _gold_of_form_reward(source, settings)
        images = [""] * len(frames)
    else:
        text, gold, images = row["text"], row["gold"], row.get("images", ())
        frames, box_format = _logged_frames(source, row)
    record = Record(
        id=str(row.get("record_id", row.get("id", source))),
        task=settings.task,
        problem=str(row.get("problem", "")),
        images=tuple(images),
        answer=gold,
        reward=settings.reward,
        trusted_reward=settings.reward == scoring.reward,
        source=source,
        columns=_with_options(row, settings.task),
    )
    task.gold(record)
    own = scoring.own_templates.get(settings.template)
    template = (scoring.templates or (Templates(own) if own else _templates(settings.template))).of(record)
    return Attempt(
        text,
        record,
        frames,
        task,
        template,
        n_tokens=tokens if isinstance(tokens, int) else None,
        completion_ids=_token_ids(row),
        trainer_state=_trainer_state(row, scoring),
    ), box_format


def _token_ids(row: Row) -> tuple[int, ...] | None:
    ids = row.get("completion_ids")
    return tuple(ids) if is_list(ids) and all(isinstance(token, int) for token in ids) else None


def _trainer_state(row: Row, scoring: Scoring) -> TrainerState:
    """The state at the rollout's step; rows without a step are judged as after training."""
    if isinstance(row.get("step"), int):
        return TrainerState(row["step"] - 1, scoring.max_steps)
    return TrainerState(scoring.max_steps, scoring.max_steps) if scoring.max_steps else TRAINED


def _with_options(row: Row, task: str) -> Row:
    """Return the row with its options in the form that data files yield; a logged row has them in its prompt."""
    options = read_options(row.get(OPTIONS))
    if options is None and task == "choice" and not options_in_problem(str(row.get("problem", ""))):
        options = dict(options_in_problem(str(row.get("prompt", ""))))
    return {**row, OPTIONS: options} if options else row


def _gold_of_form_reward(source: str, settings: RowSettings) -> AnswerValue:
    if settings.reward.partition("(")[0] not in _FORM_REWARDS or settings.task not in _WITHOUT_GOLD:
        raise DataError(f'{source}: the key "solution" is missing: reward "{settings.reward}" compares with it')
    return _WITHOUT_GOLD[settings.task]


# ---- images --------------------------------------------------------------------------------------------------------


def _frames(source: str, row: Row, wanted: BoxFormat | None) -> tuple[tuple[ImageFrame, ...], BoxFormat]:
    """Return the frames of a case's images, and the coordinates of its boxes."""
    original, seen = (_sizes(source, key, row.get(key)) for key in _SIZES)
    box_format = wanted or (BoxFormat.INPUT_PIXELS if seen else BoxFormat.ORIGINAL_PIXELS)
    if box_format is not BoxFormat.ORIGINAL_PIXELS and not original:
        raise DataError(f'{source}: the key "image_size" is missing: boxes in {box_format.value} need it')
    if box_format is BoxFormat.INPUT_PIXELS and len(seen) != len(original):
        raise DataError(f'{source}: "model_input_size" is missing, or not of as many images as "image_size"')
    original = original or (_UNKNOWN_WH,)
    seen = seen if len(seen) == len(original) else original
    return tuple(ImageFrame(wh, input_wh) for wh, input_wh in zip(original, seen, strict=True)), box_format


def _sizes(source: str, key: str, value: Any) -> tuple[tuple[int, int], ...]:
    """Read the (width, height) of each image from one pair or a list of pairs; empty for None."""
    if value is None:
        return ()
    pairs = value if is_list(value) and value and isinstance(value[0], list) else [value]
    for pair in pairs:
        if not (is_list(pair) and len(pair) == 2 and all(isinstance(n, int) and n > 0 for n in pair)):
            raise DataError(f'{source}: "{key}" is {value!r:.100}; wanted [width, height] in pixels')
    return tuple((width, height) for width, height in pairs)


def _logged_frames(source: str, row: Row) -> tuple[tuple[ImageFrame, ...], BoxFormat]:
    """Return the frames of a logged answer, and the coordinates of its boxes."""
    original, seen = (_sizes(source, key, _as_lists(row.get(key))) for key in ("image_sizes", "input_sizes"))
    try:
        box_format = BoxFormat(row.get("box_format"))
        frames = tuple(ImageFrame(wh, input_wh) for wh, input_wh in zip(original, seen, strict=True))
    except ValueError as error:  # no such format, or not as many sizes of one kind as of the other
        raise DataError(
            f'{source}: logged without "image_sizes", "input_sizes" and "box_format", so its boxes cannot be converted'
        ) from error
    return frames, box_format


def _as_lists(pairs: list[Any] | tuple[Any, ...] | None) -> Any:
    """Turn sizes, which rollouts hold as tuples, into lists as JSON has them."""
    return [list(pair) for pair in pairs] or None if isinstance(pairs, list | tuple) else pairs
