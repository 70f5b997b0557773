"""Print the reference of all recipe options, or explain one option or one section.

  vlm-r1 config                        all options, as docs/configuration.md
  vlm-r1 config training.save_steps    type, default and meaning of one option
  vlm-r1 config save_steps             the same, by its last word
  vlm-r1 config model.lora             a section: each of its options
  vlm-r1 config data.train.0.task      an option of a data source

A recipe sets an option in YAML, and a command line as --section.option=value.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the option that is explained."""
    parser.add_argument(
        "option", metavar="OPTION", nargs="?", help="an option or a section (default: all, as Markdown)"
    )


def run(args: argparse.Namespace) -> int:
    """Print docs/configuration.md, or what an option means.

    Raises:
        ConfigError: there is no such option.
    """
    from vlm_r1.config.markdown import explain, reference

    if args.option is None:
        print(reference(), end="")
        return 0
    from vlm_r1.runtime.terminal import Terminal

    Terminal().print(explain(args.option))
    return 0
