"""Calling a reward for many completions: its arguments, the check of its result, and the error when it fails."""

# pyright: standard

from __future__ import annotations

import inspect
import json
import math
import os
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

from vlm_r1.config.secrets import masked, without_values
from vlm_r1.errors import RewardError, VlmR1Error
from vlm_r1.rewards.awaiting import LeftError, await_all
from vlm_r1.rewards.base import RewardInput
from vlm_r1.rewards.guard import TimeLimit, TimeUpError, bound_the_end, call_guarded, is_ctrl_c
from vlm_r1.rewards.kept_state import kept_state
from vlm_r1.rewards.signature import ADAPTERS_PAGE, PROTOCOL, AnyFunction, Reward, resolve_reward
from vlm_r1.types import AnswerValue

__all__ = ["COLUMNS", "Logged", "Reward", "call_reward", "columns_of", "evaluate", "resolve_reward"]


class Logged(dict[str, list[float]]):
    """The metrics of the rewards of one step.

    The items are the values that rewards log with TRL's `log_metric`, by name; the step logs their means. `counts` are
    the counts of our own rewards (`RewardInput.counts`), by name; the step logs their sums. `seconds` are those
    that each component of the reward took.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}


COLUMNS = ("id", "problem", "solution", "images", "image_path", "image_size", "model_input_size")
"""Columns that a function of TRL's signature gets from each record, unless its line has a key of that name."""

_PACKAGE = str(Path(__file__).resolve().parents[1])


def call_reward(
    name: str,
    reward: Reward,
    givens: Sequence[RewardInput[Any]],
    logged: dict[str, list[float]] | None = None,
    limit: TimeLimit | None = None,
) -> list[float | None]:
    """Call `evaluate`, and report the failure of a function from outside in one line; our own failures are bugs.

    A function from outside may do whatever it likes: its time is limited (`guard.py`), leaving the process is a failure
    like others, and what it changes in the process is put back (`kept_state.py`).

    Args:
        limit: how long each reward may run for this batch; None: the default, for this call alone.

    Raises:
        RewardError: a function from outside failed. The message has its name, the record, the error and its place.
    """
    if not reward.outside:
        return evaluate(name, reward, givens, logged)
    limit = limit or TimeLimit()
    bound_the_end()
    try:
        with kept_state(name):
            return evaluate(name, reward, givens, logged, limit)
    except VlmR1Error:
        raise
    except BaseException as error:  # other people's code; the error is raised again in another form
        if is_ctrl_c(error):
            raise
        # a process of `score --workers` alone knows the keys that it gave to the reward
        raise RewardError(masked(_one_line(name, reward, error, limit.limit_s))) from error


def evaluate(
    name: str,
    reward: Reward,
    givens: Sequence[RewardInput[Any]],
    logged: dict[str, list[float]] | None = None,
    limit: TimeLimit | None = None,
) -> list[float | None]:
    """Call a reward for many completions, and check what it returns.

    Async functions run together in one event loop, so that they wait for a server at the same time.

    Args:
        logged: collects the metrics that a function of TRL's signature logs; None: they are dropped.
        limit: see `call_reward`.

    Returns:
        A reward for each; None where a function of TRL's signature leaves a completion out, by None or NaN as in TRL.

    Raises:
        ValueError: a reward is not a finite number, or there is not one for each completion. Errors of the function
            itself are passed on with a note, and so is a `TimeUpError`.
    """
    if reward.takes_batch:
        return _one_for_each(name, reward.function(givens), givens)
    if not (reward.outside or reward.takes_columns or reward.is_async):
        returned = _call_one_by_one(name, reward.function, givens)
        return [_checked(name, value, given) for value, given in zip(returned, givens, strict=True)]
    call = partial(_call, name, reward, limit or TimeLimit())
    if reward.takes_columns:
        values: list[float | None] = [None] * len(givens)
        for members in _batches(givens):
            batch = [givens[i] for i in members]
            returned = call(batch, partial(_call_together, name, reward, batch, logged))
            for i, value in zip(members, _one_for_each(name, returned, batch), strict=True):
                values[i] = value
        return values
    if reward.is_async:
        returned = call(givens, lambda: await_all([reward.function(given) for given in givens]))
    else:
        returned = [call([given], partial(reward.function, given)) for given in givens]
    return [_checked(name, value, given) for value, given in zip(returned, givens, strict=True)]


def _call_one_by_one(name: str, function: AnyFunction, givens: Sequence[RewardInput[Any]]) -> list[Any]:
    """Call a function of ours: nothing of what `_call` does is needed, and it would cost half as much again."""
    returned: list[Any] = []
    try:
        for given in givens:
            returned.append(function(given))
    except Exception as error:
        error.add_note(f'{givens[len(returned)].record.source}: raised by reward "{name}"')
        raise
    return returned


def _call(
    name: str, reward: Reward, limit: TimeLimit, givens: Sequence[RewardInput[Any]], function: Callable[[], Any]
) -> Any:
    """Call a function for these completions, under guard if it is from outside; its errors get a note."""
    try:
        if not reward.outside:
            return function()
        with limit.running(name) as left_s:
            return call_guarded(function, f'{_sources(givens)}: reward "{masked(name)}"', left_s)
    except BaseException as error:
        error.add_note(f'{_sources(givens)}: raised by reward "{masked(name)}"')
        raise


def _sources(givens: Sequence[RewardInput[Any]]) -> str:
    others = f" and {len(givens) - 1} other completions" if len(givens) > 1 else ""
    return f"{givens[0].record.source}{others}"


def _call_together(
    name: str, reward: Reward, givens: Sequence[RewardInput[Any]], logged: dict[str, list[float]] | None
) -> Any:
    """Call a function of TRL's signature once."""
    returned = reward.function(**_arguments(name, reward, givens, logged))
    returned = await_all([returned])[0] if reward.is_async else returned
    returned = returned.tolist() if callable(getattr(returned, "tolist", None)) else returned
    return list(returned) if isinstance(returned, Iterator) else returned


def _one_for_each(name: str, returned: Any, givens: Sequence[RewardInput[Any]]) -> list[float | None]:
    values = list(returned) if isinstance(returned, Iterable) and not isinstance(returned, str | Mapping) else None
    if values is None or len(values) != len(givens):
        raise ValueError(
            f'reward "{name}" returned {returned!r:.200} for {len(givens)} completions; wanted one for each'
        )
    return [None if _left_out(v) else _checked(name, v, given) for v, given in zip(values, givens, strict=True)]


# ---- results -------------------------------------------------------------------------------------------------------


def _checked(name: str, reward: Any, given: RewardInput[Any]) -> float:
    number = reward if type(reward) is float else as_number(reward)
    if number is not None and math.isfinite(number):
        return number
    advice = ": mend the function"
    if callable(reward):
        advice = ": if it makes the reward, name it with its options, e.g. get_it(size=3)"
    elif isinstance(reward, Mapping | tuple | list):
        advice = f". Was it written for another framework? See {ADAPTERS_PAGE}"
    raise ValueError(f'{given.record.source}: reward "{name}" returned {reward!r:.200}; wanted a finite number{advice}')


def _left_out(value: Any) -> bool:
    number = None if value is None else as_number(value)
    return value is None or (number is not None and math.isnan(number))


def as_number(value: Any) -> float | None:
    """Convert a number of Python or numpy, or a tensor of one element, to a float; None for anything else.

    >>> import numpy as np
    >>> [as_number(value) for value in (1, True, np.float32(0.5), np.array([2]), "1", None)]
    [1.0, 1.0, 0.5, 2.0, None, None]
    """
    try:
        if callable(getattr(value, "item", None)):
            value = value.item()
        return float(value) if isinstance(value, Real | Decimal) else None
    except (ValueError, TypeError, RuntimeError, OverflowError):  # e.g. an array of several elements
        return None


# ---- arguments -----------------------------------------------------------------------------------------------------


def _batches(givens: Sequence[RewardInput[Any]]) -> list[list[int]]:
    """Group completions for one call each: by the state of training, and by whether prompts are plain texts."""
    members: dict[Any, list[int]] = {}
    for i, given in enumerate(givens):
        members.setdefault((given.trainer_state, _is_plain(given)), []).append(i)
    return list(members.values())


def _is_plain(given: RewardInput[Any]) -> bool:
    """Return whether the line has a text as `prompt`: as in TRL, prompt and completion are then texts, not messages."""
    return isinstance(given.record.row.get("prompt"), str)


def _arguments(
    name: str, reward: Reward, givens: Sequence[RewardInput[Any]], logged: dict[str, list[float]] | None
) -> dict[str, Any]:
    """Make the arguments that TRL passes to a reward function, as far as the function takes them."""
    offered = _columns(givens) | _protocol(name, givens, logged)
    if any(given.completion_ids is None for given in givens):
        del offered["completion_ids"]
        if "completion_ids" in reward.required:
            raise RewardError(
                f'{givens[0].record.source}: reward "{name}" takes completion_ids, but texts are judged here without a '
                'tokenizer: give the rows a key "completion_ids", or judge in training or `vlm-r1 eval`'
            )
    missing = {key: [None] * len(givens) for key in reward.required if key not in offered}
    wanted = {key for key in offered if reward.takes_all or key in reward.named} - set(reward.bound)
    return {key: value for key, value in offered.items() if key in wanted} | missing


def _protocol(name: str, givens: Sequence[RewardInput[Any]], logged: dict[str, list[float]] | None) -> dict[str, Any]:
    plain = _is_plain(givens[0])

    def log_metric(metric: str, value: Any) -> None:
        number = as_number(value)
        if number is None:
            raise ValueError(f'log_metric("{metric}", {value!r:.100}): wanted a number')
        if logged is not None:
            logged.setdefault(without_values(str(metric)), []).append(number)

    def log_extra(column: str, values: Any) -> None:
        if len(values) != len(givens):
            raise ValueError(f'log_extra("{column}", …): {len(values)} values for {len(givens)} completions')
        for given, value in zip(givens, values, strict=True):
            given.extra[without_values(str(column))] = _without_secrets(_as_json(value))

    return {
        "prompts": [_prompt(given) for given in givens],
        "completions": [g.text if plain else [{"role": "assistant", "content": g.text}] for g in givens],
        "completion_ids": [list(given.completion_ids or ()) for given in givens],
        "trainer_state": givens[0].trainer_state,
        "log_metric": log_metric,
        "log_extra": log_extra,
    }


def _prompt(given: RewardInput[Any]) -> Any:
    """Return the line's own prompt, or else the messages before the question and the question as the user's."""
    own = given.record.row.get("prompt")
    record = given.record
    return own if isinstance(own, str | list) else [*record.context, {"role": "user", "content": record.problem}]


def columns_of(given: RewardInput[Any]) -> dict[str, Any]:
    """Return the columns of one record: those of its line, and those of `COLUMNS` that the line lacks."""
    record = given.record
    ours: dict[str, Any] = {
        "id": record.id,
        "problem": record.problem,
        "solution": record.answer,
        "images": list(record.images),
        "image_path": list(record.images),
        "image_size": [list(frame.original_wh) for frame in given.frames],
        "model_input_size": [list(frame.input_wh) for frame in given.frames],
    }
    return {**ours, **record.columns, **record.row}


def _columns(givens: Sequence[RewardInput[Any]]) -> dict[str, list[Any]]:
    """Make a list for each column, with None where a record lacks it; without `prompt` and `completion`, as in TRL."""
    records = [columns_of(given) for given in givens]
    names = dict.fromkeys(name for columns in records for name in columns)
    kept = [name for name in names if name not in (*PROTOCOL, "prompt", "completion")]
    return {name: [columns.get(name) for columns in records] for name in kept}


def _as_json(value: Any) -> AnswerValue:
    """Convert a value for logging: numbers of numpy and torch to numbers, values that JSON lacks to texts."""
    value = value.tolist() if callable(getattr(value, "tolist", None)) else value
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        return str(value)


def _without_secrets(value: AnswerValue) -> AnswerValue:
    """Mask the keys that rewards were given, in a value that a reward logs; nothing else in it is changed."""
    text = json.dumps(value)
    masked_text = without_values(text)
    return value if masked_text == text else json.loads(masked_text)


# ---- errors --------------------------------------------------------------------------------------------------------


def _one_line(name: str, reward: Reward, error: BaseException, limit_s: float) -> str:
    notes = getattr(error, "__notes__", ())
    error = error.error if isinstance(error, LeftError) else error
    message, place = " ".join(_text(error).split())[:500], place_of(reward.function, error)
    if not notes and f'reward "{name}" returned' in message:  # our own error about the result
        return f"{message} ({place})"
    source = notes[-1].partition(": raised by")[0] if notes else "the result"  # its own text may fail
    if isinstance(error, TimeUpError):
        advice = "raise reward_timeout_s, or mend the function"
        return f'{source}: reward "{name}" gave no answer within {limit_s:g} s ({place}): {advice}'
    hint = f". Was it written for another framework? See {ADAPTERS_PAGE}" if "RewardInput" in message else ""
    return f'{source}: reward "{name}" raised {type(error).__name__}: {message} ({place}){hint}'


def _text(error: BaseException) -> str:
    """Return the text of an error, whose `__str__` may be anybody's and fail."""
    return str(traceback.TracebackException(type(error), error, None))


def place_of(function: AnyFunction, error: BaseException) -> str:
    """Find `file:line` in the function's own file, else in the deepest foreign file, else of its definition."""
    inner = inspect.unwrap(getattr(function, "func", function))
    code = getattr(inner, "__code__", None) or getattr(type(inner).__call__, "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    frames += error.awaited if isinstance(error, TimeUpError) else ()
    own = [frame for frame in frames if code is not None and frame.filename == code.co_filename]
    foreign = [frame for frame in frames if not frame.filename.startswith(_PACKAGE)]
    if own or (foreign and code is None):
        last = (own or foreign)[-1]
        return f"{_short(last.filename)}:{last.lineno}"
    return f"{_short(code.co_filename)}:{code.co_firstlineno}" if code is not None else repr(inner)[:100]


def _short(path: str) -> str:
    """Return a path relative to the current folder if it is below it."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
