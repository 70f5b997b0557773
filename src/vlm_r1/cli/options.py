"""Types of command-line options that several commands share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from vlm_r1.config.base import plain_name


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


def file_name(text: str) -> str:
    """Parse a name that becomes a file name."""
    try:
        return plain_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def local_path(text: str) -> Path:
    """Parse a path. A leading ~ is the home folder; a shell does not replace it in `--out=~/…`."""
    return Path(path_text(text))


def path_text(text: str) -> str:
    """Parse a path as text, for an option that may also be a URL or the name of a model."""
    if text.startswith("--"):  # argparse treats an unknown option that contains a space as an argument
        raise argparse.ArgumentTypeError(f"wanted a path, got {text!r}; overrides go behind the recipe")
    return os.path.expanduser(text)
