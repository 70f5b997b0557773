"""From the name of a reward, as it stands in a recipe or a data line, to its values for many completions.

A name may carry options: `iou`, `iou_threshold(at=0.75)`, `my_package.rewards:Judge(model="small")`. Functions from
outside may have our signature, `(given: RewardInput) -> float`, or TRL's, `(prompts, completions, **columns) ->
list[float]`; either plain or async; or be a class, which is called with the options and must give such a function.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import inspect
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from vlm_r1.errors import ConfigError
from vlm_r1.registry import resolve
from vlm_r1.rewards.base import RewardInput

AnyFunction = Callable[..., Any]


@dataclass(frozen=True)
class Reward:
    """A function of one of the four kinds above.

    Attributes:
        function: its options bound.
        takes_columns: whether its signature is TRL's.
        is_async: whether what it returns must be awaited.
    """

    function: AnyFunction
    takes_columns: bool
    is_async: bool


def resolve_reward(spec: str, table: Mapping[str, AnyFunction]) -> Reward:
    """The reward that a name with options means.

    Raises:
        ConfigError: unknown name, unknown option, or options that are no Python literals.

    >>> resolve_reward("power(exponent=3)", {"power": lambda x, *, exponent=2: x**exponent}).function(2)
    8
    """
    name, options = _split(spec)
    found = resolve("reward", name, table)
    if inspect.isclass(found):
        found, options = _construct(spec, found, options), {}
    if not callable(found):
        raise ConfigError(f'reward "{spec}" is {found!r:.100}; wanted a function or a class of callable objects')
    parameters = inspect.signature(found).parameters
    known = [p.name for p in parameters.values() if p.default is not p.empty and p.kind is p.KEYWORD_ONLY]
    any_option = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    unknown = [] if any_option else [option for option in options if option not in known]
    if unknown:
        wanted = f"its options are {', '.join(known)}" if known else "it has no options"
        raise ConfigError(f'reward "{spec}" has no option {unknown[0]}; {wanted}')
    return Reward(
        function=functools.partial(found, **options) if options else found,
        takes_columns="completions" in parameters,
        is_async=inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(type(found).__call__),
    )


def evaluate(name: str, reward: Reward, givens: Sequence[RewardInput[Any]]) -> list[float]:
    """Call a reward for many completions, and stop with the name of reward and record if it misbehaves.

    Async functions run together in one event loop, so one that waits for a server waits for all answers at once.

    Raises:
        ValueError: a reward is not a finite number, or there are not as many as completions. What the function itself
            raises goes through, with a note.
    """
    function = reward.function
    if not (reward.takes_columns or reward.is_async):
        return [_checked(name, _call(name, function, given), given) for given in givens]
    try:
        if reward.takes_columns:
            returned = function(**_columns(givens))
            values = _wait([returned])[0] if reward.is_async else returned
        else:
            values = _wait([function(given) for given in givens])
    except Exception as error:  # the boundary to other people's rewards: nothing is swallowed
        error.add_note(f'{givens[0].record.source} and {len(givens) - 1} other completions: raised by reward "{name}"')
        raise
    if not isinstance(values, Sequence) or len(values) != len(givens):
        raise ValueError(f'reward "{name}" returned {values!r:.200} for {len(givens)} completions; wanted one for each')
    return [_checked(name, value, given) for value, given in zip(values, givens, strict=True)]


def _call(name: str, function: AnyFunction, given: RewardInput[Any]) -> Any:
    try:
        return function(given)
    except Exception as error:
        error.add_note(f'{given.record.source}: raised by reward "{name}"')
        raise


def _checked(name: str, reward: Any, given: RewardInput[Any]) -> float:
    if isinstance(reward, int | float) and math.isfinite(reward):
        return float(reward)
    raise ValueError(
        f'{given.record.source}: reward "{name}" returned {reward!r:.200}; wanted a finite number: mend the function'
    )


def _split(spec: str) -> tuple[str, dict[str, Any]]:
    name, bracket, rest = spec.partition("(")
    if not bracket:
        return spec, {}
    try:
        call = ast.parse(f"_({rest}", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not all(keyword.arg for keyword in call.keywords):
            raise ValueError("options are written name=value")
        return name.strip(), {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
    except (ValueError, SyntaxError) as error:
        raise ConfigError(
            f'reward "{spec}": the options cannot be read: {error}; wanted e.g. iou_threshold(at=0.75)'
        ) from error


def _construct(spec: str, factory: type, options: dict[str, Any]) -> Any:
    try:
        return factory(**options)
    except TypeError as error:
        raise ConfigError(f'reward "{spec}" cannot be made: {error}') from error


def _columns(givens: Sequence[RewardInput[Any]]) -> dict[str, Any]:
    """What TRL hands to a reward function of a data set with images: conversations, and one list for each column."""
    names = dict.fromkeys(name for given in givens for name in given.record.columns)
    records = [given.record for given in givens]
    return {
        **{name: [record.columns.get(name) for record in records] for name in names},
        "id": [record.id for record in records],
        "problem": [record.problem for record in records],
        "solution": [record.answer for record in records],
        "images": [list(record.images) for record in records],
        "image_size": [[list(frame.original_wh) for frame in given.frames] for given in givens],
        "model_input_size": [[list(frame.input_wh) for frame in given.frames] for given in givens],
        "prompts": [[{"role": "user", "content": record.problem}] for record in records],
        "completions": [[{"role": "assistant", "content": given.text}] for given in givens],
    }


def _wait(awaitables: Sequence[Awaitable[Any]]) -> list[Any]:
    """Await all together, in a thread of its own: a notebook's thread has an event loop already."""

    async def together() -> list[Any]:
        return await asyncio.gather(*awaitables)

    with ThreadPoolExecutor(max_workers=1) as executor:
        return executor.submit(asyncio.run, together()).result()
