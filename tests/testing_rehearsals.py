"""What tests of rehearsals share: a recipe of 30 records with a held-out set, and a command with its output."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from vlm_r1.cli.main import main


class Done(NamedTuple):
    """A command that has ended."""

    status: int
    shown: str
    errors: str


def call(*arguments: object) -> Done:
    """Run a command in this process."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main([str(argument) for argument in arguments])
    return Done(status, out.getvalue(), err.getvalue())


def write_recipe(folder: Path, files: Mapping[str, Path]) -> Path:
    """A recipe of a model that is not on this machine, with much that a rehearsal has to change."""
    tree: dict[str, Any] = {
        "output_dir": str(folder / "run"),
        "model": {
            "path": "Qwen/Qwen2.5-VL-3B-Instruct",
            "gradient_checkpointing": True,
            "lora": {"r": 4, "lora_alpha": 8},
            "max_pixels": 1003520,
        },
        "data": {
            "train": [{"path": str(files["train"]), "split_range": [0, 0.9], "split_by": "image"}],
            "eval": {"held": {"path": str(files["train"]), "split_range": [0.9, 1], "split_by": "image"}},
        },
        "rewards": {"accuracy": 1.0, "format": 1.0, "testing_rewards:letters": 0.5},
        "grpo": {"beta": 0.04},
        "training": {"num_train_epochs": 2, "eval_steps": 20, "learning_rate": 1e-4, "report_to": ["wandb"]},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path
