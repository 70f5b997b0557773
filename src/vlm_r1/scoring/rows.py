"""Scoring of completions in files: test cases, a run's rollouts, the samples of an evaluation.

A row is scored by the same `judge` as in training, or by the original's own functions (`official`). The keys of a row
tell its kind:

* Cases have `completion` and `solution`, and `image_size` and `model_input_size` if boxes must be converted.
* Logged rows (docs/runs.md), i.e. rollouts and samples, have `text` and `gold`. They also hold the sizes of the images,
  the sizes at which the model saw them, the coordinates in which it writes, and the template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from vlm_r1.data.options import read_options
from vlm_r1.errors import ConfigError, DataError
from vlm_r1.official import OFFICIAL, official_score
from vlm_r1.parsing.choices import options_in_problem
from vlm_r1.parsing.json_values import is_list
from vlm_r1.parsing.messages import is_context, split_context
from vlm_r1.parsing.options import OPTIONS
from vlm_r1.registry import quoted, suggestion
from vlm_r1.rewards.base import TRAINED, TrainerState
from vlm_r1.scoring.settings import Row, RowSettings, Scoring, check_names, reward_name, settings_of
from vlm_r1.tasks import get_task
from vlm_r1.tasks.judge import Attempt, check_rewards, judge
from vlm_r1.tasks.templates import Templates, make_templates
from vlm_r1.types import AnswerValue, BoxFormat, ImageFrame, Record, Score, Turn

_WITHOUT_GOLD: Mapping[str, AnswerValue] = {"rec": [0, 0, 1, 1], "ovd": [], "vqa": "?", "math": "0"}
"""Gold answers for cases that have none. They are used only with `_FORM_REWARDS`, which do not read them."""

_LEFT_OUT = "every reward leaves this row out (None)"

_SIZES = ("image_size", "model_input_size")
_FORM_REWARDS = ("format", "tags", "json_format", "one_answer", "repetition")
_GREATEST = 1 << 31  # of a side in pixels, and of a number of tokens
_UNKNOWN_WH = (1024, 1024)  # size of an image if no conversion needs it; with a power of two nothing is rounded


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
    check_names(source, row)
    _check_numbers(source, row)
    if scoring.official:
        _check_official(source, reward_name(row, scoring))
        return
    settings = settings_of(source, row, scoring)
    looked_up = scoring.templates is None and settings.template not in scoring.own_templates
    _check_settings(settings.task, settings.reward, settings.template, looked_up)


def score_rows(rows: Sequence[tuple[str, Row]], scoring: Scoring) -> list[RowScore]:
    """Score rows that have passed `check_row`, given with their sources; every completion gets a score.

    Raises:
        ConfigError: an option of a reward is wrong.
        ValueError: a reward function returned something that is not a finite number.
    """
    if scoring.official:
        return [_official(source, row, scoring) for source, row in rows]
    return [
        RowScore(None, score)
        if isinstance(score, str)
        else RowScore(score.reward, None if score.reward is not None else f"{source}: {_LEFT_OUT}")
        for (source, _), score in zip(rows, judge_rows(rows, scoring), strict=True)
    ]


def judge_rows(rows: Sequence[tuple[str, Row]], scoring: Scoring) -> list[Score | str]:
    """Judge rows that have passed `check_row`; returns for each its score, or why its gold answer cannot be used."""
    scores: dict[int, Score | str] = {}
    ready: dict[BoxFormat, dict[int, Attempt]] = {}
    for i, (source, row) in enumerate(rows):
        try:
            attempt, box_format = _attempt(source, row, scoring)
            ready.setdefault(box_format, {})[i] = attempt
        except DataError as error:
            scores[i] = str(error)
    for box_format, attempts in ready.items():
        scores |= zip(attempts, _judge(list(attempts.values()), box_format, scoring), strict=True)
    return [scores[i] for i in range(len(rows))]


def _judge(attempts: Sequence[Attempt], box_format: BoxFormat, scoring: Scoring) -> list[Score | str]:
    """Judge all at once, for rewards that wait for a server; one by one if a gold answer does not suit its reward."""
    try:
        return [*judge(attempts, box_format, scoring.weights, scoring.combination, timeout_s=scoring.reward_timeout_s)]
    except DataError as error:
        if len(attempts) == 1:
            return [str(error)]
        return [score for attempt in attempts for score in _judge([attempt], box_format, scoring)]


def _official(source: str, row: Row, scoring: Scoring) -> RowScore:
    text, gold = (row["completion"], row.get("solution")) if _is_case(row) else (row["text"], row["gold"])
    name = str(reward_name(row, scoring))
    sizes = [next(iter(_sizes(source, key, row.get(key))), None) for key in _SIZES]
    score = official_score(name, text, gold, *sizes)
    return RowScore(score, None if score is not None else f'{source}: the original\'s "{name}" returns nothing here')


# ---- one row -------------------------------------------------------------------------------------------------------


def _is_case(row: Row) -> bool:
    return isinstance(row.get("completion"), str)


@cache
def _check_settings(task: str, reward: str, template: str, template_matters: bool) -> None:
    get_task(task)
    record = Record("", task, "", (), None, reward=reward, source="--reward")
    check_rewards({"accuracy": 1.0}, [record])
    if template_matters:
        _templates(template)


@cache
def _templates(name: str) -> Templates:
    return make_templates(name)


def _check_official(source: str, name: str | None) -> None:
    if name not in OFFICIAL:
        what = quoted(name) if name else "that is not named"
        raise ConfigError(
            f"{source}: the original has no reward {what}. {suggestion(name or '', OFFICIAL)}Known: "
            f"{', '.join(sorted(OFFICIAL))}"
        )


def _attempt(source: str, row: Row, scoring: Scoring) -> tuple[Attempt, BoxFormat]:
    """Make the attempt that `judge` takes; DataError if the gold answer or the sizes of the row cannot be used."""
    settings = settings_of(source, row, scoring)
    task, tokens = get_task(settings.task), row.get("tokens")
    if _is_case(row):
        text, frames, box_format = row["completion"], *_frames(source, row, settings.box_format)
        gold = row["solution"] if "solution" in row else _gold_of_form_reward(source, settings)
        images = [""] * len(frames)
    else:
        text, gold, images = row["text"], row["gold"], row.get("images") or ()
        frames, box_format = _logged_frames(source, row)
    system, history = _before(source, row)
    record = Record(
        id=str(row.get("record_id", row.get("id", source))),
        task=settings.task,
        problem=str(row.get("problem", "")),
        images=tuple(images),
        answer=gold,
        reward=settings.reward,
        source=source,
        system=system,
        columns=_with_options(row, settings.task),
        history=history,
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


def _before(source: str, row: Row) -> tuple[str | None, tuple[Turn, ...]]:
    """Return the system message and the earlier turns of a logged answer; cases have none."""
    found: Any = None if _is_case(row) else row.get("context")
    context: object = [] if found is None else [*cast("Sequence[object]", found)] if isinstance(found, tuple) else found
    if not is_context(context):
        raise DataError(f'{source}: "context" is {found!r:.80}; wanted a list of messages with role and content')
    return split_context(context)


def _check_numbers(source: str, row: Row) -> None:
    tokens, images = row.get("tokens"), row.get("images")
    if isinstance(tokens, int) and not 0 <= tokens <= _GREATEST:
        raise DataError(f'{source}: "tokens" is {quoted(tokens)}; wanted the number of tokens')
    if images is not None and not _is_paths(images):
        raise DataError(f'{source}: "images" is {quoted(images)}; wanted a list of paths')


def _is_paths(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(path, str) for path in cast("Sequence[object]", value))


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
        if not (is_list(pair) and len(pair) == 2 and all(isinstance(n, int) and 0 < n <= _GREATEST for n in pair)):
            raise DataError(f'{source}: "{key}" is {quoted(value)}; wanted [width, height] in pixels')
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


def _as_lists(pairs: Any) -> Any:
    """Turn sizes, which rollouts hold as tuples, into lists as JSON has them; no sizes are None."""
    if not isinstance(pairs, list | tuple):
        return pairs
    found = cast("Sequence[Any]", pairs)
    return [list(cast("Sequence[Any]", pair)) if isinstance(pair, tuple) else pair for pair in found] or None
