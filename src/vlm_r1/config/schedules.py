"""Schedules of the learning rate by transformers' names, with the options that each takes (`lr_scheduler_kwargs`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

ScheduleName = Literal[
    "linear",
    "cosine",
    "constant",
    "constant_with_warmup",
    "cosine_with_restarts",
    "polynomial",
    "inverse_sqrt",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "warmup_stable_decay",
]

_REFUSED = ("reduce_lr_on_plateau", "greedy")


class Number(NamedTuple):
    """A number with bounds, which it may equal.

    Attributes:
        whole: only whole numbers.
    """

    low: float
    high: float = math.inf
    whole: bool = False

    def takes(self, value: object) -> bool:
        """Return whether a value of a recipe is such a number."""
        kinds = int if self.whole else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} from {self.low:g}" + ("" if self.high == math.inf else f" to {self.high:g}")


class Words(NamedTuple):
    """A choice of words."""

    words: tuple[str, ...]

    def takes(self, value: object) -> bool:
        """Return whether a value of a recipe is one of the words."""
        return value in self.words

    def __str__(self) -> str:
        return f"one of {', '.join(self.words)}"


@dataclass(frozen=True)
class Schedule:
    """What a schedule takes.

    Attributes:
        options: its own options.
        needs: one of these options must be given; (): none.
        warms_up: whether the rate rises over `warmup_steps`.
    """

    options: Mapping[str, Number | Words] = field(default_factory=dict[str, Number | Words])
    needs: tuple[str, ...] = ()
    warms_up: bool = True


_SHARE, _RATE, _COUNT = Number(0, 1), Number(0), Number(1, whole=True)
_CYCLES = Number(1e-3)
_SHAPE = Words(("linear", "cosine", "1-sqrt"))
_MIN_LR = {"num_cycles": _CYCLES, "min_lr": _RATE, "min_lr_rate": _SHARE}

SCHEDULES: Mapping[ScheduleName, Schedule] = {
    "linear": Schedule(),
    "cosine": Schedule({"num_cycles": _CYCLES}),
    "constant": Schedule(warms_up=False),
    "constant_with_warmup": Schedule(),
    "cosine_with_restarts": Schedule({"num_cycles": _COUNT}),
    "polynomial": Schedule({"lr_end": _RATE, "power": Number(1e-3)}),
    "inverse_sqrt": Schedule({"timescale": _COUNT}),
    "cosine_with_min_lr": Schedule(_MIN_LR, needs=("min_lr", "min_lr_rate")),
    "cosine_warmup_with_min_lr": Schedule({**_MIN_LR, "warmup_lr_rate": _SHARE}, needs=("min_lr", "min_lr_rate")),
    "warmup_stable_decay": Schedule(
        {
            "num_decay_steps": _COUNT,
            "warmup_type": _SHAPE,
            "decay_type": _SHAPE,
            "min_lr_ratio": _SHARE,
            "num_cycles": _CYCLES,
        },
        needs=("num_decay_steps",),
    ),
}
"""transformers' schedules that are functions of the step. warmup_stable_decay has no `num_stable_steps`: they are what
warmup and decay leave."""


def by_step(name: Any) -> Any:
    """Return the name unchanged.

    Raises:
        ValueError: it is one of transformers' schedules that follow a metric.
    """
    if name in _REFUSED:
        raise ValueError(
            f"{name} follows a metric of evaluations, but a schedule here is a function of the step, so that a resumed "
            "run has the same rates: choose another, e.g. cosine_with_min_lr"
        )
    return name


def check_options(name: ScheduleName, options: Mapping[str, Any], peak: float) -> None:
    """Check the options of a schedule.

    Args:
        peak: learning_rate of the recipe.

    Raises:
        ValueError: an option is unknown to it, has no such value, or is missing.
    """
    schedule = SCHEDULES[name]
    taken = ", ".join(schedule.options) or "none"
    for option, value in options.items():
        if option not in schedule.options:
            raise ValueError(f'lr_scheduler_kwargs: {name} takes no "{option:.60}". It takes: {taken}')
        if not schedule.options[option].takes(value):
            wanted = schedule.options[option]
            raise ValueError(f"lr_scheduler_kwargs.{option}: wanted {wanted}, got {value!r:.60}")
    given = [option for option in schedule.needs if option in options]
    if schedule.needs and len(given) != 1:
        one = "exactly one of " * (len(schedule.needs) > 1) + " and ".join(schedule.needs)
        raise ValueError(f"lr_scheduler_type {name} needs {one} in lr_scheduler_kwargs, which may have: {taken}")
    end = options.get("min_lr", options.get("lr_end", 1e-7 if name == "polynomial" else None))
    if end is not None and end >= peak:
        raise ValueError(
            f"lr_scheduler_kwargs: {name} ends at {end:g}, which is not below learning_rate {peak:g}: lower "
            f"{'lr_end' if name == 'polynomial' else 'min_lr'}, or raise the rate"
        )
