"""Train a model with GRPO by a recipe.

  vlm-r1 train recipes/rec_qwen25vl3b_8xh100.yaml --model.path=CKPT --data.train.0.path=my.jsonl --output_dir=runs/rec
  accelerate launch --num_processes 8 -m vlm_r1.cli.main train RECIPE …      several GPUs or processes
  vlm-r1 train runs/rec/config.yaml --resume                                 continue after a stop or a crash
  vlm-r1 train RECIPE --resume auto                                          continue if there is a run, else start
  vlm-r1 train RECIPE --rehearse                                             try everything in a minute, without weights

SIGINT (Ctrl-C), SIGTERM, SIGUSR1 and SIGHUP end the run after its step, saved; docs/stopping.md has the exit codes.

Every option of the recipe can be overridden as --section.option=value; `vlm-r1 config` lists them all.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from vlm_r1.cli.options import path_text
from vlm_r1.cli.rehearsal import add_rehearsal, check_arguments, print_rehearsal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare recipe, --resume, --resume=auto, --dry-run and --rehearse; everything else is an override."""
    parser.set_defaults(takes_overrides=True)
    parser.add_argument("recipe", metavar="RECIPE", type=path_text, help="YAML file; a run's own config.yaml works too")
    resuming = parser.add_mutually_exclusive_group()
    resuming.add_argument(
        "--resume",
        action="store_const",
        const=True,
        default=False,
        help="continue the run in output_dir from its newest checkpoint",
    )
    resuming.add_argument(
        *("--resume=auto", "--resume-or-start"),  # `join_resume` makes one word of `--resume auto`
        dest="resume",
        action="store_const",
        const="auto",
        help="the same if output_dir holds a run, else start one: for scripts of a queue (also --resume auto)",
    )
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="KEY",
        help="with --resume: let this option, or all options of a section, differ from the run so far, e.g. "
        "training.max_steps; may be given several times",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check data and prompts and print the plan, but do not train or write"
    )
    add_rehearsal(parser)


def run(args: argparse.Namespace) -> int:
    """Train, then write the report."""
    return run_recipe(args, "grpo")


def run_recipe(args: argparse.Namespace, stage: Literal["grpo", "sft"]) -> int:
    """Load the recipe and plan (--dry-run), rehearse or train; shared by `train` and `sft`.

    Raises:
        VlmR1Error: see the trainers; or the recipe is that of a run folder that was moved or copied.
    """
    from vlm_r1.cli.console import reach_hub
    from vlm_r1.config import load_config

    check_arguments(args)
    config = load_config(args.recipe, args.overrides)
    if args.rehearse:
        print_rehearsal(config, stage, args.family)
        return 0
    reach_hub(config.model.path, *(source.path for source in config.sources if source.path.startswith("hub:")))
    if not args.dry_run and not any(override.startswith("--output_dir") for override in args.overrides):
        check_place(Path(args.recipe), config.output_dir)
    if args.dry_run:
        from vlm_r1.cli.dry_run import print_plan

        print_plan(config, stage, resume=bool(args.resume))
        return 0
    from vlm_r1.cli.console import quiet_libraries, show_result
    from vlm_r1.grpo.trainer import train
    from vlm_r1.supervised.trainer import train_sft
    from vlm_r1.training.processes import leave_processes

    quiet_libraries()
    trainer = train if stage == "grpo" else train_sft
    summary = trainer(config, resume=args.resume, allow=args.allow)
    leave_processes()
    show_result(config, summary)
    return 0


def join_resume(words: Sequence[str]) -> list[str]:
    """Make one word of `--resume auto`, so that `--resume RECIPE` never takes the recipe for its value.

    >>> join_resume(["train", "--resume", "auto", "rec.yaml"]), join_resume(["train", "--resume", "rec.yaml"])
    (['train', '--resume=auto', 'rec.yaml'], ['train', '--resume', 'rec.yaml'])
    """
    joined: list[str] = []
    for word in words:
        if word == "auto" and joined[-1:] == ["--resume"]:
            joined[-1] = "--resume=auto"
        else:
            joined.append(word)
    return joined


def check_place(recipe: Path, output_dir: str) -> None:
    """Refuse the config.yaml of a run that is not where it says: another run, or none, would go on.

    Raises:
        CheckpointError: so it is.
    """
    from vlm_r1.errors import CheckpointError

    folder = recipe.parent
    is_of_run = recipe.name == "config.yaml" and (folder / "environment.json").exists()
    if not is_of_run or folder.resolve() == Path(output_dir).resolve():
        return
    raise CheckpointError(
        f"{recipe}: lies in another folder than its output_dir, {output_dir}: was the run moved or copied? To go "
        f"on with this one, add --output_dir={folder}; with the other, --output_dir={output_dir}"
    )
