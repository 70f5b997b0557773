"""Types of command-line options that several commands share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from vlm_r1.registry import may_be_allowed

if TYPE_CHECKING:
    from vlm_r1.config.data import Allowed


def count(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"wanted a whole number of at least 1, got {text!r}")
    return int(text)


def share(text: str) -> float:
    """Parse a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"wanted a number from 0 to 1, got {text!r}")
    return value


def local_path(text: str) -> Path:
    """Parse a path. A leading ~ is the home folder; a shell does not replace it in `--out=~/…`."""
    return Path(path_text(text))


def path_text(text: str) -> str:
    """Parse a path as text, for an option that may also be a URL or the name of a model."""
    if text.startswith("--"):  # argparse treats an unknown option that contains a space as an argument
        raise argparse.ArgumentTypeError(f"wanted a path, got {text!r}; overrides go behind the recipe")
    return os.path.expanduser(text)


def outside_name(text: str) -> str:
    """Parse the name of an object of the user's own, which rows may then name."""
    if not may_be_allowed(text):
        raise argparse.ArgumentTypeError(
            f"wanted package.module:Name, e.g. my_package.rewards:Judge, got {text!r:.100}"
        )
    return text


def add_allow(parser: argparse.ArgumentParser, *kinds: str) -> None:
    """Declare `--allow-reward NAME` and its like: code that the data, or the folder of a run, may name."""
    for kind in kinds:
        parser.add_argument(
            f"--allow-{kind}",
            type=outside_name,
            action="append",
            default=[],
            metavar="NAME",
            help=f"{kind} of your own, package.module:Name, that the data may name (repeatable; docs/security.md)",
        )


def allowed_of(args: argparse.Namespace) -> Allowed:
    """Return what rows may name, by the options of a command without a recipe."""
    from vlm_r1.config.data import Allowed

    return Allowed(allowed_rewards=args.allow_reward)
