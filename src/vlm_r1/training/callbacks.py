"""Functions of the user's own that a run calls at the end of each step (`vlm_r1.train(…, callbacks=…)`)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vlm_r1.errors import CallbackError, ConfigError
from vlm_r1.rewards.call import place_of
from vlm_r1.rewards.kept_torch import torch_states
from vlm_r1.types import Group


@dataclass(frozen=True)
class StepEnd:
    """What a callback gets: one finished step. Nothing in it is to be changed.

    Attributes:
        step: the step that has ended, from 1; a resumed run goes on counting.
        max_steps: number of steps of the whole run.
        metrics: the line of `metrics.jsonl` without its step (docs/runs.md), e.g. {"reward/mean": 0.4, "loss": 0.01};
            in a step with an evaluation also "eval/…".
        groups: the groups of the step, of all processes, without pixels; their rollouts have text, reward and
            advantage. Supervised fine-tuning has none.
        model: the transformers model, or with LoRA the peft model, with the step's new weights.
        run_folder: where the run is written.
    """

    step: int
    max_steps: int
    metrics: Mapping[str, float]
    groups: tuple[Group, ...] = field(repr=False)
    model: Any = field(repr=False)
    run_folder: Path
    _stops: list[bool] = field(default_factory=list[bool], repr=False)

    def stop(self) -> None:
        """End the run after this step, as a signal does: it is saved and reported, and `resume=True` goes on."""
        self._stops.append(True)

    @property
    def is_stopped(self) -> bool:
        """Whether a callback has called `stop`."""
        return bool(self._stops)


Callback = Callable[[StepEnd], object]
"""A callback; what it returns is not looked at."""


def check_callbacks(callbacks: Sequence[Callback]) -> tuple[Callback, ...]:
    """Return the callbacks, which come from anybody's program.

    Raises:
        ConfigError: they are no functions.
    """
    found: Any = callbacks
    if not isinstance(found, list | tuple):
        raise ConfigError(f"callbacks: wanted a list of functions, got {found!r:.100}")
    for callback in callbacks:
        if not callable(callback):
            hint = ". Give a function of one vlm_r1.StepEnd in the place of an object with on_step_end"
            raise ConfigError(
                f"callbacks: wanted functions, got {callback!r:.100}" + hint * hasattr(callback, "on_step_end")
            )
    return tuple(callbacks)


def call_callbacks(callbacks: Sequence[Callback], end: StepEnd) -> None:
    """Call all callbacks with the end of a step. torch's modes and random numbers are put back after each.

    Raises:
        CallbackError: one raised; the message has its name, the step, the error and its place.
    """
    for callback in callbacks:
        name = getattr(callback, "__qualname__", type(callback).__qualname__)
        try:
            with _kept_torch():
                callback(end)
        except Exception as error:
            message = " ".join(str(error).split())[:500]
            raise CallbackError(
                f'callback "{name}" raised {type(error).__name__} after step {end.step}: {message} '
                f"({place_of(callback, error)}). The step is saved; mend the function, and go on with resume=True"
            ) from error


@contextmanager
def _kept_torch() -> Generator[None]:
    states = torch_states(torch.cuda.is_initialized())
    before = [read() for _, read, *_ in states]
    try:
        yield
    finally:
        for (_, read, write, same, _), old in zip(states, before, strict=True):
            if not same(old, read()):
                write(old)
