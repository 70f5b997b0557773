"""One run of `benchmarks.step` in a process of its own, so that its peak memory is its own; prints one JSON line.

  python -m benchmarks.step_worker auto|rows|trl|floor FOLDER

auto, rows  ours, `vlm_r1.grpo.trainer.train` on a recipe, by layout of the log-probability passes
trl         TRL's GRPOTrainer
floor       a plain forward and backward on as many unique tokens and images as a step has, and nothing else
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.nn.functional import cross_entropy
from transformers import AutoModelForImageTextToText

from benchmarks.meter import PHASES, Meter
from benchmarks.scenes import REWARDS, Sizes, data_file, read_records, read_sizes
from vlm_r1.cli.console import quiet_libraries
from vlm_r1.config import Config, load_config
from vlm_r1.grpo.trainer import train
from vlm_r1.models import load_adapter
from vlm_r1.rollouts.env import Env
from vlm_r1.runtime.metrics_log import MetricsRow, read_metrics
from vlm_r1.runtime.progress import Display
from vlm_r1.tasks.templates import make_templates

_TEXT_TOKENS = 64  # more than the question and the template have


def main() -> None:
    """Run one side and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=("auto", "rows", "trl", "floor"))
    parser.add_argument("folder", type=Path, help="what benchmarks.scenes.write_inputs wrote")
    args = parser.parse_args()
    quiet_libraries()
    sizes, meter = read_sizes(args.folder), Meter()
    torch.set_num_threads(sizes.threads)
    with tempfile.TemporaryDirectory() as out:
        if args.side == "trl":
            from benchmarks.trl_peer import train_with_trl  # seconds to import, and only a guest here

            more = train_with_trl(args.folder, Path(out) / "run", sizes, meter)
        elif args.side == "floor":
            more = run_floor(args.folder, sizes, meter)
        else:
            more = train_ours(recipe(args.folder, Path(out), sizes, args.side), meter)
    print(json.dumps({"steps": meter.steps, **meter.counts(), **more}))


def recipe(folder: Path, out: Path, sizes: Sizes, layout: str) -> Config:
    """The step as a recipe, with TRL's settings where it has them."""
    tree = {
        "output_dir": str(out / "run"),
        "model": {
            "path": str(folder / "model"),
            "min_pixels": sizes.image_px,
            "max_pixels": sizes.image_px,
        },
        "data": {"train": [{"path": str(data_file(folder))}], "template": "bare"},
        "rewards": REWARDS,
        "sampling": {"max_completion_length": sizes.completion_tokens},
        "grpo": {"num_generations": sizes.generations, "loss_type": "dapo", "beta": sizes.beta},
        "training": {
            "max_steps": sizes.steps + 1,
            "prompts_per_step": sizes.prompts,
            "lr_scheduler_type": "constant",
            "trust_checks": False,  # of the first two steps and of every hundredth: not of a step as it mostly is
        },
    }
    path = out / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return load_config(path, engine_options(sizes, layout))


def engine_options(sizes: Sizes, layout: str) -> list[str]:
    """How the log-probability passes are laid out and cut: as many positions in a micro-batch as TRL's may have."""
    row_tokens = sizes.image_tokens + _TEXT_TOKENS + sizes.completion_tokens
    return [
        f"--training.layout={layout}",
        f"--training.max_tokens_per_micro_batch={sizes.rows_per_micro_batch * row_tokens}",
    ]


def train_ours(config: Config, meter: Meter) -> dict[str, Any]:
    """Take the steps of a recipe; phases are those of the run's own metrics."""
    train(config, display=_Marks(meter))
    rows = read_metrics(Path(config.output_dir) / "metrics.jsonl")[1:]
    for step, row in zip(meter.steps, rows, strict=True):
        step |= _phases(row)
    lengths = [float(row["completions/mean_length"]) for row in rows]
    no_signal = max(float(row["groups/no_signal"]) for row in rows)
    return {"completion_length": sum(lengths) / len(lengths), "no_signal": no_signal}


def _phases(row: MetricsRow) -> dict[str, float]:
    """Seconds of a step by phase, the encoding of prompts counted as sampling, as in TRL."""
    seconds = {name: float(row.get(f"time/{name}_s", 0.0)) for name in (*PHASES, "encode")}
    seconds["sample"] += seconds.pop("encode")
    return seconds


class _Marks(Display):
    """Shows nothing; its bar of steps is where the meter is told of them."""

    def __init__(self, meter: Meter):
        super().__init__(enabled=False)
        self.meter = meter

    def say(self, text: str) -> None:
        """Keep standard output for the JSON line."""

    @contextmanager
    def steps(self, label: str, total: int, done: int = 0) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
        """One bar: there is no evaluation."""
        self.meter.start()
        yield lambda n, numbers: self.meter.step_done()
        self.meter.stop()


def run_floor(folder: Path, sizes: Sizes, meter: Meter) -> dict[str, Any]:
    """Forward and backward of transformers' model: each prompt once, with its G completions behind it as one text.

    One row for each prompt, all equally long, hence no padding and no mask; random completions; logits and
    cross-entropy of completion positions only. As a row is one text, its completions attend to each other, which a
    policy pass saves: with long completions this floor is not the lowest imaginable.
    """
    adapter = load_adapter(folder / "model", min_pixels=sizes.image_px, max_pixels=sizes.image_px)
    model = AutoModelForImageTextToText.from_pretrained(folder / "model", dtype=torch.float32).train()
    env = Env(adapter, make_templates("bare"), REWARDS)
    records = read_records(folder)
    answer_tokens = sizes.generations * sizes.completion_tokens
    batches = []
    for first in range(0, len(records), sizes.prompts):
        prompts = [env.encode(record) for record in records[first : first + sizes.prompts]]
        length = sum(len(prompt.ids_L) for prompt in prompts) // sizes.prompts + answer_tokens
        rows = [[*p.ids_L, *torch.randint(256, (length - len(p.ids_L),)).tolist()] for p in prompts]
        ids_PL = torch.tensor(rows)
        vision = {name: torch.cat([p.vision[name] for p in prompts]) for name in prompts[0].vision}
        is_image_PL = (ids_PL == model.config.image_token_id).int()
        batches.append({"input_ids": ids_PL, "mm_token_type_ids": is_image_PL, **vision})
    meter.start()
    for batch in batches:
        with meter.phases("policy"):
            logits_PTV = model(
                **batch,
                attention_mask=torch.ones_like(batch["input_ids"]),
                use_cache=False,
                logits_to_keep=answer_tokens + 1,
            ).logits[:, :-1]
            cross_entropy(logits_PTV.flatten(0, 1), batch["input_ids"][:, -answer_tokens:].flatten()).backward()
        model.zero_grad()
        meter.step_done()
    meter.stop()
    return {"completion_length": sizes.completion_tokens}


if __name__ == "__main__":
    main()
