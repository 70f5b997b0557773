"""Print the reference of all recipe options: key, type, default, meaning."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare nothing: the command has no options."""


def run(args: argparse.Namespace) -> int:
    """Print docs/configuration.md."""
    from vlm_r1.config.markdown import reference

    print(reference(), end="")
    return 0
