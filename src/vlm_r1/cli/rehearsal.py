"""`--rehearse`: everything that a run does, in about a minute, with a tiny random model instead of the real one."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from vlm_r1.errors import ConfigError

if TYPE_CHECKING:
    from vlm_r1.config import Config
    from vlm_r1.rehearsal.stages import Outcome
    from vlm_r1.runtime.terminal import Terminal

_TICKS = {"done": ("✓", "green"), "failed": ("✗", "red"), "none": ("–", "dim")}
_HIDDEN_GPUS = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
_NONSENSE = "The tiny model has random weights and writes nonsense, so its numbers say nothing about yours"
_REWARDS = "; that the rewards work was shown on gold answers"
_VERDICT = "rehearsed: everything works but the weights"


def add_rehearsal(parser: argparse.ArgumentParser) -> None:
    """Declare --rehearse and --family."""
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="do everything of this run in about a minute on the CPU, with a tiny random model of the same family and "
        "a few of your records: three steps, checkpoint, resume, evaluation, report, export; in OUTPUT_DIR-rehearsal",
    )
    parser.add_argument(
        "--family",
        metavar="NAME",
        help="with --rehearse: model type of the tiny model, e.g. qwen2_5_vl (default: that of model.path)",
    )


def check_arguments(args: argparse.Namespace) -> None:
    """Refuse options that have no effect beside one another.

    Raises:
        ConfigError: so they are.
    """
    if args.family and not args.rehearse:
        raise ConfigError("--family has no effect without --rehearse: remove it")
    if not args.rehearse:
        return
    given = {"--resume": args.resume, "--dry-run": args.dry_run, "--allow": args.allow}
    if others := [option for option, value in given.items() if value]:
        raise ConfigError(f"{others[0]} has no effect with --rehearse, which trains nothing of yours: leave one out")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("--rehearse runs in one process: start it without a launcher")


def print_rehearsal(config: Config, stage: Literal["grpo", "sft"], family: str | None) -> None:
    """Rehearse a recipe, and print a line for each stage, what was not rehearsed, and the verdict.

    Raises:
        VlmR1Error: what a run would raise; the message names the stage.
    """
    with _no_gpu():
        import torch

        from vlm_r1.cli.console import quiet_libraries
        from vlm_r1.rehearsal.recipe import folder_of
        from vlm_r1.rehearsal.rehearse import rehearse
        from vlm_r1.rehearsal.stages import Stages
        from vlm_r1.runtime.terminal import Terminal, styled

        quiet_libraries()
        console, start, threads = Terminal(), time.perf_counter(), torch.get_num_threads()
        console.print(f"a rehearsal in {folder_of(config)}, on the CPU; it takes about a minute", soft_wrap=True)
        torch.set_num_threads(1)  # two take twice the processor time on tensors this small (docs/log.md)
        try:
            with console.status(styled("data")) as status:
                stages = Stages(
                    lambda outcome: _print_outcome(console, outcome), lambda name: status.update(styled(name))
                )
                done = rehearse(config, stage, stages, family=family)
        finally:
            torch.set_num_threads(threads)
        for line in done.notes:
            console.print(line, style="yellow", soft_wrap=True)
        _print_lines(console, "smaller than in the recipe", [", ".join(done.recipe.smaller)])
        _print_lines(console, "not rehearsed", done.recipe.missed)
        console.print(f"{_NONSENSE}{_REWARDS if stage == 'grpo' else ''}.", soft_wrap=True)
        console.print(f"report      {done.page}", soft_wrap=True)
        console.print(f"seconds     {time.perf_counter() - start:.0f}")
        console.print(_VERDICT, style="green")


def _print_outcome(console: Terminal, outcome: Outcome) -> None:
    from rich.table import Table

    from vlm_r1.runtime.terminal import styled

    tick, style = _TICKS[outcome.state]
    row = Table.grid(padding=(0, 1))
    row.add_column(width=1)
    row.add_column(width=10)
    row.add_column(width=7, justify="right")
    row.add_column(overflow="fold")
    seconds = f"{outcome.seconds:.1f} s" if outcome.state != "none" else ""
    row.add_row(styled(tick, style), styled(outcome.name, "bold"), styled(seconds), styled(outcome.told))
    console.print(row)


def _print_lines(console: Terminal, title: str, lines: Sequence[str]) -> None:
    if any(lines):
        console.print(f"{title}:")
        console.print(*(f"  {line}" for line in lines), sep="\n", soft_wrap=True)


@contextmanager
def _no_gpu() -> Generator[None]:
    """Hide the GPUs from this process: a resumed run equals a straight one to the last bit on a CPU only."""
    before = {name: os.environ[name] for name in _HIDDEN_GPUS if name in os.environ}
    os.environ.update(dict.fromkeys(_HIDDEN_GPUS, ""))
    try:
        yield
    finally:
        for name in _HIDDEN_GPUS:
            del os.environ[name]
        os.environ.update(before)
