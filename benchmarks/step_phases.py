"""Where the time of a demo-sized GRPO step goes: median seconds by phase, and tokens a second.

  python -m benchmarks.step_phases [--steps 20] [--threads 2] [--json FILE]

Makes its own data and a tiny model with random weights, whose completions run to the length cap: an upper bound on the
time of a trained one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import Watch
from vlm_r1.cli.console import quiet_libraries
from vlm_r1.cli.demo import main_recipe, write_inputs
from vlm_r1.grpo.trainer import train
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.progress import Display
from vlm_r1.runtime.run_folder import environment

PHASES = ("encode", "sample", "score", "policy", "optimizer", "log", "step")


def main() -> None:
    """Run a few steps and print the table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="where to write the results")
    args = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder, Watch() as machine:
        out = Path(folder) / "run"
        write_inputs(out, seed=0, train=20 * args.steps, held_out=1)
        config = main_recipe(out, seed=0, steps=args.steps, model=out / "start/model")
        train(config, display=Display(enabled=False))
        rows = read_metrics(out / "metrics.jsonl")[2:]  # the first two warm up
    result = {phase: statistics.median(float(row[f"time/{phase}_s"]) for row in rows) for phase in PHASES}
    table = Table("phase", "seconds (median)", "share", title=f"a GRPO step of the demo, {args.threads} threads")
    for phase, seconds in result.items():
        table.add_row(phase, f"{seconds:.3f}", f"{seconds / result['step']:.0%}")
    Console().print(table)
    tokens = {key: rows[-1][key] for key in ("tokens/sample", "tokens/policy")}
    line = {"seconds": result, **tokens, "threads": args.threads}
    line |= {"environment": environment(), "machine": machine.told}
    print(json.dumps(line))
    if args.json:
        args.json.write_text(json.dumps(line), encoding="utf-8")


if __name__ == "__main__":
    main()
