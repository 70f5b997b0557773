"""The runs that are attacked: a tiny real model, GRPO and SFT, whole weights and LoRA, one and two processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from vlm_r1.synthetic import write_rec_dataset
from vlm_r1.testing import TinySize, write_tiny_qwen2_5_vl

STEPS = 6
LAST = f"step-{STEPS:06d}"
"""The last checkpoint of a run."""
_TEXTS = [
    "Please provide the bounding box coordinates of the region this sentence describes: the small red circle.",
    "<think>the large blue square left of the green triangle</think><answer>[1, 2, 30, 4]</answer>",
] * 8


@dataclass(frozen=True)
class Subject:
    """A kind of run."""

    name: str
    command: Literal["train", "sft"] = "train"
    processes: int = 1
    overrides: Mapping[str, Any] = field(default_factory=dict)


_LORA = {"model": {"lora": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.2}}}
SUBJECTS = (
    Subject("grpo"),
    Subject("grpo-lora", overrides=_LORA | {"grpo": {"num_generations": 4, "beta": 0.05, "num_iterations": 2}}),
    Subject("sft", "sft", overrides={"training": {"optim": "muon"}}),
    Subject("sft-lora", "sft", overrides=_LORA),
    Subject("grpo-2", processes=2),
    Subject("grpo-lora-2", processes=2, overrides=_LORA),
    Subject("sft-2", "sft", processes=2),
    Subject("sft-lora-2", "sft", processes=2, overrides=_LORA),
)


def write_recipe(folder: Path, subject: Subject) -> Path:
    """Write a recipe into the folder, with checkpoint and data, which are made if they are missing."""
    if not (folder / "model").exists():
        write_tiny_qwen2_5_vl(folder / "model", _TEXTS, seed=1, size=TinySize(num_hidden_layers=1, vision_depth=1))
    if not (folder / "data").exists():
        counts = {"train": 16, "warmup": 16, "in_domain": 3, "out_of_domain": 1}
        write_rec_dataset(folder / "data", seed=0, counts=counts)
    warmup = subject.command == "sft"
    tree: dict[str, Any] = {
        "output_dir": "to be named",
        "seed": 3,
        "model": {"path": str(folder / "model")},
        "data": {
            "train": [{"path": str(folder / f"data/{'warmup' if warmup else 'train'}.jsonl")}],
            "eval": {"held": {"path": str(folder / "data/in_domain.jsonl")}},
            "template": "bare",
        },
        "sampling": {"max_completion_length": 8},
        "grpo": {"num_generations": 4},
        "rewards": {"accuracy": 1.0, "format": 0.5, "testing_rewards:letters": 1.0},
        "training": {
            "max_steps": STEPS,
            "prompts_per_step": 4,
            "learning_rate": 1e-3,
            "save_steps": 2,
            "eval_steps": 3,
            "max_tokens_per_micro_batch": 256,
        },
    }
    for section, options in subject.overrides.items():
        tree[section] = {**tree[section], **options}
    path = folder / f"{subject.name}.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path
