"""`vlm-r1 COMMAND`: the commands, their help, and how errors reach the user."""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from vlm_r1 import __version__
from vlm_r1.cli.endings import (
    is_loss_of_others,
    leave,
    leave_to_launcher,
    masked_traceback,
    tell_failure,
    tell_loss,
    tell_stop,
)
from vlm_r1.cli.train import join_resume
from vlm_r1.errors import ConfigError, VlmR1Error
from vlm_r1.runtime.text import write_out_unknown_characters
from vlm_r1.training.stopping import Stopped, ending_at_once

COMMANDS = {
    "demo": "train a tiny vision-language model with GRPO on this machine, in minutes",
    "plan": "say whether a recipe fits on a GPU, and what to change if it does not",
    "train": "train a model with GRPO by a recipe",
    "sft": "train a model on the gold answers by a recipe (warm start, baseline)",
    "eval": "answer a data file by a protocol and measure: accuracy, intervals, format",
    "metrics": "measure detections of any tool in COCO's files: COCO statistics, NMS-AP, GP and GR",
    "score": "score completions that were written down: cases, rollouts, evaluation samples",
    "compare": "compare results of evaluations: differences with intervals and p, subsets, what flipped",
    "check-model": "check a checkpoint and its adapter: tokens, frames, log-probabilities, freezing, saving",
    "export": "write a run's model as a Hugging Face folder with a model card, checked with plain transformers",
    "trace": "show one record of a recipe through every stage, with real values",
    "data": "check, convert, rate or synthesise data files",
    "report": "write the offline page of a run",
    "config": "print the reference of all recipe options",
}
"""Name and help of each command. Its module (see `_module`) has `add_arguments(parser)` and `run(args)`."""

USER_ERROR = 2

_SPINS = "10000"
"""OpenMP threads that spin for long make a run ten times slower when another program needs a core (docs/log.md)."""


def program() -> int:
    """Run the command of this process; a traceback, which only a bug causes, is shown without secrets."""
    try:
        return main()
    except Exception as error:
        sys.stderr.write(masked_traceback(error))
        raise SystemExit(leave(1)) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (docs/stopping.md).

    0: done; 1: findings, e.g. of `data check`; 2: a mistake that the user can mend; 128 + n: ended by signal n.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    write_out_unknown_characters(sys.stdout, sys.stderr)
    try:
        with ending_at_once():
            status = _run(make_parser(), arguments)
            sys.stdout.flush()
            return leave(status)
    except VlmR1Error as error:
        return leave(tell_failure(error, USER_ERROR))
    except BrokenPipeError:
        if not _output_is_closed():
            raise
        return 128 + signal.SIGPIPE
    except Exception as error:
        if is_loss_of_others(error):
            return leave(tell_loss(error))
        leave_to_launcher(masked_traceback(error))
        raise
    except KeyboardInterrupt as stop:
        return leave(tell_stop(stop if isinstance(stop, Stopped) else Stopped(signal.SIGINT)))


def _run(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    args, rest = parser.parse_known_args(join_resume(sys.argv[1:] if arguments is None else arguments))
    args.overrides = rest
    if rest and not getattr(args, "takes_overrides", False):
        raise ConfigError(f"`vlm-r1 {args.command}` does not know {rest[0]!r}; see `vlm-r1 {args.command} --help`")
    return _module(args.command).run(args)


def _output_is_closed() -> bool:
    """Return whether nobody reads standard output any more (`| head`); then Python need not flush it at the end."""
    output = sys.stdout.fileno()
    poll = select.poll()
    poll.register(output, select.POLLOUT)
    if not any(found & (select.POLLERR | select.POLLHUP) for _, found in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all commands; the command modules import no large library before `run`."""
    parser = argparse.ArgumentParser(
        prog="vlm-r1",
        description="Teach vision-language models to reason about images by RL with rule-based rewards (GRPO).",
        epilog="Start with `vlm-r1 demo`. Each command has its own --help.",
    )
    parser.add_argument("--version", action="version", version=f"vlm-r1 {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        module = _module(name)
        command = commands.add_parser(
            name, help=summary, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(command)
    return parser


def _module(command: str) -> Any:
    """Import `vlm_r1.cli.<command>`, with _ for -."""
    return import_module(f"vlm_r1.cli.{command.replace('-', '_')}")


if __name__ == "__main__":
    sys.exit(program())
