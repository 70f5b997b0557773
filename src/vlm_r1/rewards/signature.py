"""From the name of a reward, as it stands in a recipe or a data line, to a function that can be called.

A name may carry options: `iou`, `iou_threshold(at=0.75)`, `my_package.rewards:Judge(model="small")`. Functions from
outside may have our signature, `(given: RewardInput) -> float`, or TRL's, `(prompts, completions, **columns) ->
list[float]`; either plain or async. A class, or a function that makes one (TRL's `get_…`), is called with the options
and must give such a function.
"""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vlm_r1.errors import ConfigError, VlmR1Error
from vlm_r1.registry import resolve

AnyFunction = Callable[..., Any]

PROTOCOL = ("prompts", "completions", "completion_ids", "trainer_state", "log_metric", "log_extra")
"""What TRL 1.16 hands over besides the columns of the data, by name; a function that names one has its signature."""

ADAPTERS_PAGE = "docs/reward_adapters.md"

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_STARS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

_Kind = Literal["ours", "trl", "maker", "neither"]


@dataclass(frozen=True)
class Reward:
    """A function of one of the four kinds above.

    Attributes:
        function: its options bound.
        takes_columns: whether its signature is TRL's.
        is_async: whether what it returns must be awaited.
        outside: whether it is somebody's own, `package.module:Name`.
        named: the parameters that it names and no option fills; of TRL's signature, protocol and columns.
        required: those of them that have no default.
        takes_all: whether it takes all other columns too, as `**columns`.
        bound: names of the options.
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
    """The reward that a name with options means.

    Args:
        trusted: whether a recipe or a command names it. What a data line names may not be a function that makes one,
            nor one that takes anything at all.

    Raises:
        ConfigError: unknown name, unknown option, options that are no Python literals, or a signature that can never be
            called.

    >>> resolve_reward("power(exponent=3)", {"power": lambda x, *, exponent=2: x**exponent}).function(2)
    8
    """
    name, options = _split(spec)
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
    elif not trusted and _hides_what_it_takes(spec, found):
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
    """What a function is by the names of its parameters, none of which is called to find out."""
    parameters = _parameters(spec, found)
    if any(p.name in PROTOCOL for p in parameters):
        return "trl"
    required = [p for p in parameters if p.default is p.empty and p.kind in _POSITIONAL]
    if _hides_what_it_takes(spec, found):
        return "trl"
    if any(p.kind is p.VAR_POSITIONAL for p in parameters) and len(parameters) == 1:
        return "ours"
    unfilled = [p for p in parameters if p.default is p.empty and p.kind is p.KEYWORD_ONLY and p.name not in options]
    if len(required) == 1 and required[0].name not in options and not unfilled:
        return "ours"
    return "neither" if unfilled or any(p.name not in options for p in required) else "maker"


def _hides_what_it_takes(spec: str, found: AnyFunction) -> bool:
    """Whether its signature is (**columns), or (*args, **kwargs) as a decorator leaves it: TRL calls it by keywords."""
    kinds = {p.kind for p in _parameters(spec, found)}
    return inspect.Parameter.VAR_KEYWORD in kinds and kinds <= set(_STARS)


def _parameters(spec: str, found: AnyFunction) -> Sequence[inspect.Parameter]:
    try:
        return list(inspect.signature(found).parameters.values())
    except (ValueError, TypeError) as error:  # of some builtins Python knows no signature
        raise ConfigError(
            f'reward "{spec}" does not tell what it takes ({error}): wrap it in a function of your own'
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
    except Exception as error:  # other people's code; nothing is swallowed
        raise ConfigError(f'reward "{spec}" cannot be made: {type(error).__name__}: {error}') from error
    if not callable(made):
        raise ConfigError(
            f'reward "{spec}" gave {made!r:.100} when it was called with its options; wanted a function. One that is a '
            f"reward itself takes (given), or TRL's (prompts, completions, **columns); {ADAPTERS_PAGE}"
        )
    return made
