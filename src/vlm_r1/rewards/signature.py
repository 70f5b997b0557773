"""Find the function for the name of a reward in a recipe or a data line.

A name may have options: `iou`, `iou_threshold(at=0.75)`, `my_package.rewards:Judge(model="small")`. Functions from
outside may have our signature, `(given: RewardInput) -> float`, or TRL's, `(prompts, completions, **columns) ->
list[float]`; either plain or async. A class, or a function that returns a reward (TRL's `get_…`), is called with the
options and must return such a function.
"""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vlm_r1.config.secrets import given_secrets
from vlm_r1.errors import ConfigError, VlmR1Error
from vlm_r1.registry import resolve

AnyFunction = Callable[..., Any]

PROTOCOL = ("prompts", "completions", "completion_ids", "trainer_state", "log_metric", "log_extra")
"""Arguments of TRL 1.16 that are not columns of the data; a function that names one has TRL's signature."""

ADAPTERS_PAGE = "docs/reward_adapters.md"

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_STARS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

_Kind = Literal["ours", "trl", "maker", "neither"]


@dataclass(frozen=True)
class Reward:
    """A reward function and what its signature says.

    Attributes:
        function: the function with its options bound.
        takes_columns: whether its signature is TRL's.
        is_async: whether its result must be awaited.
        outside: whether it comes from outside, as `package.module:Name`.
        named: its named parameters without the options; for TRL's signature, protocol and columns.
        required: those of `named` that have no default.
        takes_all: whether it also takes all other columns, as `**columns`.
        bound: names of the bound options.
    """

    function: AnyFunction
    takes_columns: bool
    is_async: bool
    outside: bool = False
    named: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    takes_all: bool = False
    bound: tuple[str, ...] = ()


def resolve_reward(spec: str, table: Mapping[str, AnyFunction], *, trusted: bool = True) -> Reward:
    """Find the reward of a name with options.

    Args:
        trusted: whether a recipe or a command names it. A data line may not name a function that makes a reward, nor
            one that takes any arguments.

    Raises:
        ConfigError: the name or an option is unknown, an option is not a Python literal, or the signature does not fit.

    >>> resolve_reward("power(exponent=3)", {"power": lambda x, *, exponent=2: x**exponent}).function(2)
    8
    """
    name, options = _split(spec)
    options = given_secrets(f"reward {name}", options)
    found = resolve("reward", name, table)
    if not callable(found):
        raise ConfigError(f'reward "{spec}" is {found!r:.100}; wanted a function or a class of callable objects')
    if inspect.isclass(found) or _kind(spec, found, options) == "maker":
        if not (inspect.isclass(found) or trusted):
            raise ConfigError(
                f'reward "{spec}" is made by a function, which a line of data may not have called: name it in the '
                "recipe (reward of the data source), or with --reward"
            )
        found, options = _make(spec, found, options), {}
    elif not trusted and _takes_anything(spec, found):
        raise ConfigError(
            f'reward "{spec}" takes whatever it is handed, and would be handed the columns of the line that names it: '
            "name it in the recipe (reward of the data source), or with --reward"
        )
    return _reward(spec, found, options, outside=name not in table)


def _reward(spec: str, found: AnyFunction, options: Mapping[str, Any], outside: bool) -> Reward:
    kind = _kind(spec, found, options)
    if kind not in ("ours", "trl"):
        raise ConfigError(
            f'reward "{spec}" takes {inspect.signature(found)}, and can never be called: wanted (given), or TRL\'s '
            f"(prompts, completions, **columns). A line that adapts it is in {ADAPTERS_PAGE}"
        )
    parameters = _parameters(spec, found)
    given = [p for p in parameters if p.kind in _POSITIONAL and p.default is p.empty] if kind == "ours" else []
    plain = [p for p in parameters if p.kind not in _STARS and p not in given]
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    known = [p.name for p in plain if p.name not in PROTOCOL and (p.default is not p.empty or kind == "trl")]
    unknown = [] if takes_all else [option for option in options if option not in known]
    if unknown:
        wanted = f"its options are {', '.join(known)}" if known else "it has no options"
        raise ConfigError(f'reward "{spec}" has no option {unknown[0]}; {wanted}')
    return Reward(
        function=functools.partial(found, **options) if options else found,
        takes_columns=kind == "trl",
        is_async=inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(type(found).__call__),
        outside=outside,
        named=tuple(p.name for p in plain if p.name not in options),
        required=tuple(p.name for p in plain if p.default is p.empty and p.name not in options),
        takes_all=takes_all,
        bound=tuple(options),
    )


def _kind(spec: str, found: AnyFunction, options: Mapping[str, Any]) -> _Kind:
    """Classify a function by the names of its parameters, without calling it."""
    parameters = _parameters(spec, found)
    if any(p.name in PROTOCOL for p in parameters):
        return "trl"
    required = [p for p in parameters if p.default is p.empty and p.kind in _POSITIONAL]
    if _takes_anything(spec, found):
        return "trl"
    if any(p.kind is p.VAR_POSITIONAL for p in parameters) and len(parameters) == 1:
        return "ours"
    unfilled = [p for p in parameters if p.default is p.empty and p.kind is p.KEYWORD_ONLY and p.name not in options]
    if len(required) == 1 and required[0].name not in options and not unfilled:
        return "ours"
    return "neither" if unfilled or any(p.name not in options for p in required) else "maker"


def _takes_anything(spec: str, found: AnyFunction) -> bool:
    """Return whether the signature is (**columns), or (*args, **kwargs) as of a decorator: TRL calls it by keywords."""
    kinds = {p.kind for p in _parameters(spec, found)}
    return inspect.Parameter.VAR_KEYWORD in kinds and kinds <= set(_STARS)


def _parameters(spec: str, found: AnyFunction) -> Sequence[inspect.Parameter]:
    try:
        return list(inspect.signature(found).parameters.values())
    except (ValueError, TypeError) as error:  # some builtins have no signature
        raise ConfigError(
            f'reward "{spec}" has no readable signature ({error}): wrap it in a function of your own'
        ) from error


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


def _make(spec: str, maker: AnyFunction, options: Mapping[str, Any]) -> AnyFunction:
    try:
        made = maker(**options)
    except VlmR1Error:
        raise
    except Exception as error:  # other people's code; the error is raised again in another form
        raise ConfigError(f'reward "{spec}" cannot be made: {type(error).__name__}: {error}') from error
    if not callable(made):
        raise ConfigError(
            f'reward "{spec}" gave {made!r:.100} when it was called with its options; wanted a function. One that is a '
            f"reward itself takes (given), or TRL's (prompts, completions, **columns); {ADAPTERS_PAGE}"
        )
    return made
