"""Look at data, write it, turn it into another form.

vlm-r1 data check train.jsonl --task rec       every bad line, and the score of each gold answer
vlm-r1 data synth --out data/shapes            a synthetic data set: rec, ovd, counting, change or click
vlm-r1 data convert coco SOURCE --out F.jsonl  a published data set as lines of this format
vlm-r1 data rate MODEL F.jsonl --out B.jsonl   the records that a model gets neither always right nor never
"""

from __future__ import annotations

import argparse
from importlib import import_module

from vlm_r1.cli.options import HelpFormatter

COMMANDS = {
    "check": "find every bad line, and score each gold answer with its own reward",
    "synth": "write a synthetic data set: rec, ovd, counting, change or click",
    "convert": "turn a published data set into a JSONL file",
    "rate": "rate how hard each record is for a model, and keep a band",
}
"""Name and help of each command; the module `vlm_r1.cli.data.<name>` has `add_arguments(parser)` and `run(args)`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the commands and their options."""
    commands = parser.add_subparsers(dest="data_command", required=True, metavar="COMMAND", prog="vlm-r1 data")
    for name, summary in COMMANDS.items():
        module = import_module(f"vlm_r1.cli.data.{name}")
        command = commands.add_parser(name, help=summary, description=module.__doc__, formatter_class=HelpFormatter)
        command.set_defaults(parser=command)
        module.add_arguments(command)


def run(args: argparse.Namespace) -> int:
    """Run the chosen command; returns the exit status, 1 if data is not all well.

    Raises:
        VlmR1Error: an option names something unknown, or a folder cannot be written.
    """
    return import_module(f"vlm_r1.cli.data.{args.data_command}").run(args)
