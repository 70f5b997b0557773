"""What tests of exports share: a small run, the command, and the card that it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from vlm_r1.cli.main import main
from vlm_r1.config.load import validate
from vlm_r1.grpo.trainer import train
from vlm_r1.runtime.run_folder import RunFolder

LORA = {"r": 4, "lora_alpha": 16, "peft": {"use_dora": True}}


def trained(folder: Path, checkpoint: Path, data: dict[str, Path], **sections: Any) -> RunFolder:
    """A run of two steps with a held-out set, at a rate that makes two steps show."""
    tree: dict[str, Any] = {
        "output_dir": str(folder),
        "model": {"path": str(checkpoint), **sections.pop("model", {})},
        "data": {
            "train": [{"path": str(data["train"])}],
            "eval": {"in_domain": {"path": str(data["in_domain"])}},
            "template": "paper",
        },
        "sampling": {"max_completion_length": 8},
        "grpo": {"num_generations": 4},
        "rewards": {"accuracy": 1.0, "testing_rewards:letters": 1.0},
        "training": {"max_steps": 2, "prompts_per_step": 4, "learning_rate": 2e-2, "save_steps": 1, "eval_steps": 1},
    }
    for section, options in sections.items():
        tree[section] |= options
    train(validate(tree, "test"))
    return RunFolder(folder)


def export(run: RunFolder, target: Path, *options: str) -> int:
    return main(["export", str(run.path), "--to", str(target), *options])


def card(folder: Path) -> tuple[dict[str, Any], str]:
    """(front matter, text)."""
    _, matter, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(matter), text
