"""Train a model on the gold answers by a recipe: the warm start of GRPO, and the baseline to compare it with.

  vlm-r1 sft recipes/rec_qwen25vl3b_8xh100.yaml --model.path=CKPT --data.train.0.path=my.jsonl --output_dir=runs/sft

Recipe, records, prompts and budget are those of `vlm-r1 train`. The sections grpo and rewards do not matter.
"""

from __future__ import annotations

import argparse

from vlm_r1.cli.train import add_arguments, run_recipe

__all__ = ["add_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    """Train, then write the report."""
    from vlm_r1.errors import ConfigError

    for override in args.overrides:
        if override.startswith(("--grpo.", "--sampling.")) and not any(
            option in override for option in ("max_completion_length", "sampling.engine")
        ):
            raise ConfigError(f"{override} has no effect in `vlm-r1 sft`: it belongs to `vlm-r1 train`")
    return run_recipe(args, "sft")
