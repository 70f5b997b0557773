"""`vlm_r1.train` and `vlm_r1.sft`: what the commands of these names do, from Python."""

from __future__ import annotations

import atexit
import gc
import os
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, GradientState
from transformers.utils import logging

from vlm_r1.api.runs import LoadedRun, load_run
from vlm_r1.cli.console import quiet_libraries, write_report
from vlm_r1.cli.train import check_place
from vlm_r1.config import Config, make_config
from vlm_r1.grpo.trainer import train as grpo_train
from vlm_r1.supervised.trainer import train_sft
from vlm_r1.training.callbacks import Callback
from vlm_r1.training.new_run import Resume
from vlm_r1.training.processes import leave_processes
from vlm_r1.training.stopping import Stopped

Recipe = str | PathLike[str] | Mapping[str, Any] | Config
"""The path of a YAML file, a tree of its sections, or a config."""

_PARALLEL = "TOKENIZERS_PARALLELISM"


def train(
    recipe: Recipe,
    overrides: Mapping[str, Any] | None = None,
    *,
    resume: Resume = False,
    allow: Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
) -> LoadedRun:
    """Train a model with GRPO by a recipe, write its report, and return the run.

    Args:
        recipe: the path of a YAML file, its content as a mapping, or a `Config`.
        overrides: values of options by their dotted names, e.g. {"training.max_steps": 3}.
        resume: go on from the newest checkpoint of the run in `output_dir`; "auto": if there is one, else start.
        allow: options that may then have other values than before, e.g. ["training.max_steps"].
        callbacks: functions of one `StepEnd`, called at the end of each step; in several processes the first one calls
            them, while the others wait. `StepEnd.stop` ends the run after its step, saved.

    Returns:
        The run as `load_run` opens it. Its `summary` is empty if a callback stopped it.

    Raises:
        VlmR1Error: something is wrong with the recipe, the data, the model or the run folder, mostly before training; a
            reward or a callback failed.
        KeyboardInterrupt: a signal came (Ctrl-C, or the stop button of a notebook). The steps so far are saved.
    """
    config = _config(recipe, overrides)
    return _run(config, lambda: grpo_train(config, resume=resume, allow=allow, callbacks=callbacks))


def sft(
    recipe: Recipe,
    overrides: Mapping[str, Any] | None = None,
    *,
    resume: Resume = False,
    allow: Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
) -> LoadedRun:
    """Train a model on the gold answers by a recipe, write its report, and return the run.

    Arguments, result and errors are those of `train`. A `StepEnd` has no groups.
    """
    config = _config(recipe, overrides)
    return _run(config, lambda: train_sft(config, resume=resume, allow=allow, callbacks=callbacks))


def _config(recipe: Recipe, overrides: Mapping[str, Any] | None) -> Config:
    config = make_config(recipe, overrides)
    if isinstance(recipe, str | PathLike) and "output_dir" not in (overrides or {}):
        check_place(Path(recipe), config.output_dir)
    return config


def _run(config: Config, work: Callable[[], Mapping[str, Any]]) -> LoadedRun:
    """Train, and write the report of a run that has finished or was stopped."""
    with _state_kept():
        try:
            is_first, signalled = bool(work()), None
        except Stopped as stopped:
            is_first, signalled = stopped.run is not None, stopped if stopped.number else None
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            _leave_at_the_end()
        if is_first:
            write_report(config)
        if signalled is not None:
            raise signalled
    return load_run(config.output_dir)


@cache
def _leave_at_the_end() -> None:
    """The processes stay joined, since the program may train again."""
    atexit.register(leave_processes)


@contextmanager
def _state_kept() -> Generator[None]:
    """Put back what a run changes in its process: random numbers, accelerate's state, transformers' messages.

    So a program may train twice, with other precisions, and a notebook goes on as if it had not trained.
    """
    verbosity, bars, parallel = logging.get_verbosity(), logging.is_progress_bar_enabled(), os.environ.get(_PARALLEL)
    classes: tuple[Any, ...] = (AcceleratorState, GradientState)
    shared_states: list[dict[str, Any]] = [one._shared_state for one in classes]
    states = [(shared, dict(shared)) for shared in shared_states]
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with warnings.catch_warnings(), torch.random.fork_rng(devices):  # pyright: ignore[reportUnknownMemberType]
        quiet_libraries()
        for shared, _ in states:
            shared.clear()
        try:
            yield
        finally:
            for shared, before in states:
                shared.clear()
                shared.update(before)
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()
            if parallel is None:
                os.environ.pop(_PARALLEL, None)
            gc.collect()  # models hold themselves; their memory is needed for the next
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()
