"""Is it the reward that teaches? Two controls of a finished demo, from its warm start and with its budget.

  python -m benchmarks.controls runs/demo --json controls.json

more_sft   as many seconds of further supervised training on the loose boxes as GRPO took
shuffled   GRPO in which each completion is paid another one's reward: right sizes, wrong owners
"""

from __future__ import annotations

import argparse
import json
from collections import deque
from pathlib import Path
from random import Random

from benchmarks.machine import Watch
from vlm_r1.cli.console import before_after_table, quiet_libraries
from vlm_r1.config import Config, load_config
from vlm_r1.grpo.trainer import train
from vlm_r1.rewards.base import RewardInput
from vlm_r1.rewards.boxes import iou_reward
from vlm_r1.rewards.format import format_reward
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.progress import Display
from vlm_r1.supervised.trainer import train_sft

_POOL: deque[float] = deque(maxlen=128)  # the completions of one demo step
_RANDOM = Random(0)


def shuffled(given: RewardInput) -> float:
    """The demo's reward, IoU + 0.5 · format, of a random one of the last 128 completions."""
    _POOL.append(iou_reward(given) + 0.5 * format_reward(given))
    return _RANDOM.choice(_POOL)


def main() -> None:
    """Run both controls beside the run folder and print their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of a finished `vlm-r1 demo`")
    parser.add_argument("--json", type=Path, help="where to write the results")
    args = parser.parse_args()
    quiet_libraries()
    display, results = Display(), {"grpo": json.loads((args.run / "summary.json").read_text(encoding="utf-8"))}
    with Watch() as machine:
        results["more_sft"] = train_sft(_more_sft(args.run), display=display)
        results["shuffled"] = train(_shuffled(args.run), display=display)
    for name, summary in results.items():
        display.say(f"[bold]{name}[/bold] {summary['seconds']['train']:.0f} s")
        display.console.print(before_after_table(summary))
    if args.json:
        args.json.write_text(json.dumps({**results, "machine": machine.told}, indent=2), encoding="utf-8")


def _more_sft(run: Path) -> Config:
    """The warm start's recipe, from the warm start, evaluated as GRPO is, for as many seconds as GRPO took."""
    sft_s = [float(row["time/step_s"]) for row in read_metrics(run / "start/warmup/metrics.jsonl")]
    grpo_s = sum(float(row["time/step_s"]) for row in read_metrics(run / "metrics.jsonl"))
    steps = round(grpo_s / (sum(sft_s) / len(sft_s)))
    data = run / "start/data"
    return load_config(
        run / "start/warmup/config.yaml",
        [
            f"--output_dir={run}-more_sft",
            f"--model.path={run / 'start/warmup/model'}",
            f"--training.max_steps={steps}",
            f"--data.eval.in_domain.path={data / 'in_domain.jsonl'}",
            f"--data.eval.out_of_domain.path={data / 'out_of_domain.jsonl'}",
        ],
    )


def _shuffled(run: Path) -> Config:
    rewards = "--rewards={benchmarks.controls:shuffled: 1.0}"
    return load_config(run / "config.yaml", [f"--output_dir={run}-shuffled", rewards])


if __name__ == "__main__":
    main()
