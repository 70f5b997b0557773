"""`vlm-r1 COMMAND`: the commands, their help, and how errors reach the user."""

from __future__ import annotations

import argparse
import os
import re
import select
import signal
import sys
from collections.abc import Collection, Sequence
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
from vlm_r1.cli.listing import LISTS
from vlm_r1.cli.options import HelpFormatter
from vlm_r1.cli.train import join_resume
from vlm_r1.errors import ConfigError, VlmR1Error
from vlm_r1.pretrained.beside import broken_torchvision
from vlm_r1.registry import suggestion
from vlm_r1.runtime.text import write_out_unknown_characters
from vlm_r1.training.stopping import Stopped, ending_at_once

COMMANDS = {
    "demo": "train a tiny model with GRPO on this machine, in minutes",
    "new": "write a first recipe for your data and your GPU",
    "plan": "say whether a recipe fits on a GPU, and what to change if not",
    "train": "train a model with GRPO by a recipe",
    "sft": "train a model on the gold answers by a recipe",
    "eval": "ask a model a data file, and measure its answers",
    "metrics": "measure detections of any tool in COCO's files",
    "score": "score completions that were written down, by any reward",
    "compare": "compare results of evaluations, record by record",
    "check-model": "check a checkpoint and its adapter on the real weights",
    "ask": "ask a model about pictures; it answers, and draws its boxes",
    "export": "write a run's model as a Hugging Face folder with a model card",
    "trace": "show one record of a recipe through every stage",
    "data": "check, convert, rate or synthesise data files",
    "doctor": "look for signs that a run goes wrong: numbers, likely cause, what to change",
    "report": "write the offline page of a run",
    "config": "list all recipe options, or explain one of them",
    "tasks": "list the tasks that a recipe can name",
    "rewards": "list the rewards that a recipe can name, with their options",
    "templates": "list the templates: the words around a question",
    "formats": "list the formats of data files",
    "models": "list the model families, and how each writes boxes",
}
"""Name and help of each command. Its module (see `_module`) has `add_arguments(parser)` and `run(args)`."""

_EXAMPLES = """\
examples:
  vlm-r1 demo                                the whole program, in minutes
  vlm-r1 data check train.jsonl --task rec   what is wrong with a data file
  vlm-r1 train RECIPE --dry-run              what a run would do
  vlm-r1 train RECIPE --model.path=CKPT      a run, with one option changed
  vlm-r1 config training.save_steps          what an option means
  vlm-r1 eval runs/rec val.jsonl             how good a model is

Each command has its own --help, with examples. A word in capitals stands for a
value. N is a whole number, and X is any number. FILE, DIR and PATH are places on
this machine; ~ is your home folder. NAME is a name that the help explains.
"""

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
            status = _run(join_resume(sys.argv[1:] if arguments is None else arguments))
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
        if broken := broken_torchvision(error):
            return leave(tell_failure(broken, USER_ERROR))
        leave_to_launcher(masked_traceback(error))
        raise
    except KeyboardInterrupt as stop:
        return leave(tell_stop(stop if isinstance(stop, Stopped) else Stopped(signal.SIGINT)))


def _run(words: Sequence[str]) -> int:
    named = [word for word in words if not word.startswith("-")]
    if named:
        _check_word(named[0], COMMANDS, "vlm-r1")
    if len(named) > 1:
        _check_word(named[1], getattr(_module(named[0]), "COMMANDS", ()), f"vlm-r1 {named[0]}")
    args, rest = make_parser(named[0] if named else "").parse_known_args(words)
    args.overrides = rest
    _check_rest(args)
    return _module(args.command).run(args)


def _check_rest(args: argparse.Namespace) -> None:
    """Check that what the parser does not know are overrides of a recipe, for a command that takes them.

    Raises:
        ConfigError: an option is unknown; the message has the closest one.
    """
    takes_overrides = getattr(args, "takes_overrides", False)
    options = re.findall(r"--[\w-]+", args.parser.format_help())
    for word in args.overrides if takes_overrides else args.overrides[:1]:
        name = word.partition("=")[0]
        meant = suggestion(name, options)
        if not takes_overrides or (meant and _is_no_override(name)):
            known = f"See `{args.parser.prog} --help`"
            raise ConfigError(f"`{args.parser.prog}` does not know {word!r:.100}. {meant}{known}")


def _is_no_override(name: str) -> bool:
    from vlm_r1.config import Config  # takes as long to import as the help of a command

    return name.startswith("--") and "." not in name and name[2:] not in Config.model_fields


def _check_word(word: str, known: Collection[str], before: str) -> None:
    """Check that a word names a command; without known ones any word may stand there.

    Raises:
        ConfigError: it names none; the message has the closest one.
    """
    if known and word not in known:
        raise ConfigError(
            f"there is no command `{before} {word:.100}`. {suggestion(word, known)}Known: {', '.join(known)}"
        )


def _output_is_closed() -> bool:
    """Return whether nobody reads standard output any more (`| head`); then Python need not flush it at the end."""
    output = sys.stdout.fileno()
    poll = select.poll()
    poll.register(output, select.POLLOUT)
    if not any(found & (select.POLLERR | select.POLLHUP) for _, found in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def make_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Make the parser of all commands; the command modules import no large library before `run`.

    Args:
        only: the command whose options are wanted; the others then have only their names. None: all commands.
    """
    parser = argparse.ArgumentParser(
        prog="vlm-r1",
        usage="vlm-r1 COMMAND [options]",
        description="Teach vision-language models to reason about images, by GRPO with rule-based rewards.",
        epilog=_EXAMPLES,
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"vlm-r1 {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", prog="vlm-r1")
    for name, summary in COMMANDS.items():
        if only not in (None, name):
            commands.add_parser(name, help=summary)
            continue
        module = _module(name)
        command = commands.add_parser(name, help=summary, description=module.__doc__, formatter_class=HelpFormatter)
        command.set_defaults(parser=command)
        module.add_arguments(command)
    return parser


def _module(command: str) -> Any:
    """Import `vlm_r1.cli.<command>`, with _ for -; the commands that list names have one module."""
    name = "listing" if command in LISTS else command.replace("-", "_")
    return import_module(f"vlm_r1.cli.{name}")


if __name__ == "__main__":
    sys.exit(program())
