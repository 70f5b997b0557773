"""Find the function for the name of a reward in a recipe or a data line.

A name may have options: `iou`, `iou_threshold(at=0.75)`, `my_package.rewards:Judge(model="small")`. Functions from
outside may have our signature, `(given: RewardInput) -> float`, or TRL's, `(prompts, completions, **columns) ->
list[float]`; either plain or async. A class, or a function that returns a reward (TRL's `get_…`), is called with the
options and must return such a function.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from vlm_r1.config.secrets import given_secrets
from vlm_r1.errors import ConfigError, VlmR1Error
from vlm_r1.registry import resolve, split_options

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
        takes_batch: whether it is called once for a list of inputs, and returns a list (ours alone).
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
    takes_batch: bool = False


def resolve_reward(spec: str, table: Mapping[str, AnyFunction]) -> Reward:
    """Find the reward of a name with options. What is not in the table is imported, so the name must be the user's own.

    Raises:
        ConfigError: the name or an option is unknown, an option is no Python literal or has a value that makes no
            sense, or the signature does not fit. Nothing is called that cannot be a reward, or make one.

    >>> resolve_reward("scaled(by=3)", {"scaled": lambda given, *, by=2: by}).function(None)
    3
    """
    try:
        name, options = split_options(spec)
    except ValueError as error:
        raise ConfigError(f'reward "{spec}": {error}') from error
    options = given_secrets(f"reward {name}", options)
    found = resolve("reward", name, table)
    if not callable(found):
        raise ConfigError(f'reward "{spec}" is {found!r:.100}; wanted a function or a class of callable objects')
    if inspect.isclass(found):
        _check_objects(spec, found)
    if inspect.isclass(found) or _kind(spec, found, options) == "maker":
        found, options = _make(spec, found, options), {}
    reward = _reward(spec, found, options, outside=name not in table)
    if name in table and options and not reward.takes_columns:
        _check_values(spec, found, options)
    return reward


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
        takes_batch=not outside and getattr(found, "takes_batch", False),
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


class _LookedAtError(Exception):
    """Raised by `_Untouched`."""


class _Untouched:
    """Stands for the input of a reward while its options are checked: our rewards check them before they look at it."""

    def __getattr__(self, name: str) -> Any:
        raise _LookedAtError


def _check_values(spec: str, function: AnyFunction, options: Mapping[str, Any]) -> None:
    """Check the options of one of our rewards: first their types, by the defaults, then their values, by itself.

    Raises:
        ConfigError: an option is of the wrong type, or out of range.
    """
    for parameter in _parameters(spec, function):
        default = cast("object", parameter.default)
        kind = _KINDS.get(type(default))
        if kind and parameter.name in options and not _is_like(options[parameter.name], default):
            raise ConfigError(
                f'reward "{spec:.100}": {parameter.name} is {options[parameter.name]!r:.100}; wanted {kind}, like '
                f"{default}"
            )
    try:
        function(_Untouched(), **options)
    except _LookedAtError:
        return


_KINDS: Mapping[type, str] = {int: "a whole number", float: "a number", tuple: "numbers"}
_GREATEST = 1e9
"""Greatest magnitude of a number among the options of our rewards: any sum, product or share of these is finite."""


def _is_like(value: object, default: object) -> bool:
    """Return whether a value is a number of the default's kind, or a tuple of as many as the default."""
    if isinstance(default, tuple):
        numbers, defaults = cast("tuple[object, ...]", value), cast("tuple[object, ...]", default)
        return (
            isinstance(value, tuple | list) and len(numbers) == len(defaults) and all(map(_is_like, numbers, defaults))
        )
    kinds = (int,) if isinstance(default, int) else (int, float)
    return type(value) in kinds and isinstance(value, int | float) and abs(value) <= _GREATEST


def _check_objects(spec: str, found: type) -> None:
    """Check, before an object is made, that the objects of a class are rewards."""
    call = next((vars(base)["__call__"] for base in found.__mro__ if "__call__" in vars(base)), None)
    if call is None:
        raise ConfigError(
            f'reward "{spec}" is a class whose objects are no functions, so none was made: wanted a method __call__ '
            f"that takes (given), or TRL's (prompts, completions, **columns); {ADAPTERS_PAGE}"
        )
    called = functools.partial(call, None)
    if _kind(spec, called, {}) not in ("ours", "trl"):
        raise ConfigError(
            f'reward "{spec}" is a class whose objects take {inspect.signature(called)}, so none was made: wanted '
            f"(given), or TRL's (prompts, completions, **columns); {ADAPTERS_PAGE}"
        )


def _make(spec: str, maker: AnyFunction, options: Mapping[str, Any]) -> AnyFunction:
    try:
        made = maker(**options)
    except VlmR1Error:
        raise
    except (Exception, SystemExit) as error:  # other people's code; the error is raised again in another form
        raise ConfigError(f'reward "{spec}" cannot be made: {type(error).__name__}: {error}') from error
    if not callable(made):
        raise ConfigError(
            f'reward "{spec}" gave {made!r:.100} when it was called with its options; wanted a function. One that is a '
            f"reward itself takes (given), or TRL's (prompts, completions, **columns); {ADAPTERS_PAGE}"
        )
    return made
