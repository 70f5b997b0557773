"""Types of command-line options that several commands share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"wanted a whole number of at least 1, got {text!r}")
    return int(text)


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"wanted a number from 0 to 1, got {text!r}")
    return value


def local_path(text: str) -> Path:
    """A path; a leading ~ is the home folder, which a shell does not see behind `--out=`."""
    return Path(path_text(text))


def path_text(text: str) -> str:
    """The same as text, for what may also be a URL or the name of a model."""
    if text.startswith("--"):  # argparse takes an unknown option with a space in it for an argument
        raise argparse.ArgumentTypeError(f"wanted a path, got {text!r}; overrides go behind the recipe")
    return os.path.expanduser(text)
