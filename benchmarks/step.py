"""A whole GRPO step of ours against TRL, against our own repeated rows, or against the floor of the policy pass.

  python -m benchmarks.step --image-tokens 256 --completion-tokens 64 --generations 8 --against trl|rows|floor

A small Qwen2.5-VL with random weights (hidden 256, 6 layers) learns from PNG files and JSON lines, on the CPU in
float32: sample, score, reference (beta above 0), policy, optimizer. Both sides have the same checkpoint, records,
reward, loss (dapo), AdamW, threads, length cap and size of micro-batches (by default the whole step is one); every step
has new records. Runs alternate, each in a process of its own, which takes a step to warm up.

trl    TRL's GRPOTrainer, whole steps
rows   ours with --training.layout=rows, which repeats the prompt for each completion, whole steps
floor  our policy pass alone against transformers' forward and backward on as many unique tokens and images

Seconds are medians over all measured steps, on the clock and, for whole steps, on the processors. Memory is the peak of
a process above what it held when everything was loaded: gradients and optimizer state (state_mb, on both sides alike;
the floor has no optimizer) and activations.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from safetensors import safe_open

from benchmarks.machine import Watch
from benchmarks.meter import PHASES, medians
from benchmarks.scenes import Sizes, write_inputs
from vlm_r1.cli.console import quiet_libraries
from vlm_r1.runtime.run_folder import environment


def main() -> None:
    """Run both sides in turn; print the table and one JSON line."""
    args = parse_arguments()
    quiet_libraries()
    try:
        sizes = _sizes(args)
    except ValueError as error:
        raise SystemExit(f"benchmarks.step: {error}") from error
    torch.set_num_threads(sizes.threads)  # for the record: environment() tells of this process
    with tempfile.TemporaryDirectory() as folder, Watch() as machine:
        write_inputs(Path(folder), sizes)
        runs = [
            (run_worker("auto", folder, sizes), run_worker(args.against, folder, sizes)) for _ in range(args.rounds)
        ]
        state_mb = _state_mb(Path(folder) / "model" / "model.safetensors")
    ours, theirs = (summarize(list(side)) for side in zip(*runs, strict=True))
    check(ours, theirs, sizes)
    line = compare(ours, theirs, "policy" if args.against == "floor" else "step")
    line |= {"against": args.against, "state_mb": state_mb, "sizes": asdict(sizes), "threads": args.threads}
    line["machine"] = machine.told
    line |= {"environment": environment() | {"trl": importlib.metadata.version("trl")}}
    Console().print(table(line))
    print(json.dumps(line))
    if args.json:
        args.json.write_text(json.dumps(line) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", choices=("trl", "rows", "floor"), default="trl")
    parser.add_argument("--image-tokens", type=int, default=256, help="of one image: 64, 256 or 1024 are squares")
    parser.add_argument("--completion-tokens", type=int, default=64, help="length cap")
    parser.add_argument("--generations", type=int, default=8, help="G, completions of a prompt")
    parser.add_argument("--prompts", type=int, default=2, help="P, prompts in a step")
    parser.add_argument("--beta", type=float, default=0.0, help="weight of the KL term; 0: no reference")
    parser.add_argument(
        "--rows-per-micro-batch", type=int, help="completions in a forward and backward; default: P x G"
    )
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side")
    parser.add_argument("--steps", type=int, default=2, help="measured steps of a run")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch, on both sides")
    parser.add_argument("--json", type=Path, help="where to write the results")
    return parser.parse_args()


def _sizes(args: argparse.Namespace) -> Sizes:
    rows = args.prompts * args.generations
    sizes = Sizes(
        image_tokens=args.image_tokens,
        completion_tokens=args.completion_tokens,
        generations=args.generations,
        prompts=args.prompts,
        rows_per_micro_batch=args.rows_per_micro_batch or rows,
        steps=args.steps,
        beta=args.beta,
        threads=args.threads,
    )
    if rows % sizes.rows_per_micro_batch:
        raise ValueError(f"--rows-per-micro-batch {sizes.rows_per_micro_batch} is no divisor of P x G = {rows}")
    _ = sizes.image_wh  # is there a picture of that many tokens?
    return sizes


def run_worker(side: str, folder: str, sizes: Sizes) -> dict[str, Any]:
    """One run in a process of its own, without a GPU; what it prints on its last line."""
    alike = {
        "OMP_NUM_THREADS": str(sizes.threads),
        "CUDA_VISIBLE_DEVICES": "",
        "ACCELERATE_USE_CPU": "true",
        "HF_HUB_OFFLINE": "1",
        "PYTHONWARNINGS": "ignore::FutureWarning",  # among the libraries
        "TOKENIZERS_PARALLELISM": "false",
        "TRL_EXPERIMENTAL_SILENCE": "1",
    }
    command = [sys.executable, "-m", "benchmarks.step_worker", side, folder]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, cwd=root, env=os.environ | alike, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        hint = "; killed, probably out of memory: lower --rows-per-micro-batch" if done.returncode == -9 else ""
        raise SystemExit(f"benchmarks.step: the run of {side} ended with status {done.returncode}{hint}")
    return json.loads(done.stdout.splitlines()[-1])


def summarize(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the steps of all runs; counts are the same in every run, but for completions that stop by chance."""
    steps = [step for run in runs for step in run["steps"]]
    memory = medians([{"mb": run["memory_mb"]} for run in runs])["mb"]
    lengths = [run["completion_length"] for run in runs]
    return {
        **runs[0],
        "seconds": medians(steps),
        "memory_mb": memory,
        "completion_length": sum(lengths) / len(lengths),
        "steps": [run["steps"] for run in runs],
    }


def check(ours: dict[str, Any], theirs: dict[str, Any], sizes: Sizes) -> None:
    """Both sides saw images of the wanted size, and no group was skipped: else the numbers mean nothing."""
    for name, side in (("ours", ours), ("theirs", theirs)):
        if side["image_tokens"] != [sizes.image_tokens]:
            raise SystemExit(f"benchmarks.step: {name} saw {side['image_tokens']} tokens for an image")
    if ours["no_signal"]:
        raise SystemExit(f"benchmarks.step: {ours['no_signal']:.0%} of our groups had no signal and may be skipped")


def compare(ours: dict[str, Any], theirs: dict[str, Any], what: str) -> dict[str, Any]:
    """The numbers of both sides by name; `what` is compared, "step" or a phase."""
    both = {"ours": ours, "theirs": theirs}
    return {
        "speedup": theirs["seconds"][what] / ours["seconds"][what],
        "compared": what,
        **{f"{name}_s": side["seconds"][what] for name, side in both.items()},
        **{f"{name}_cpu_s": side["seconds"]["cpu"] for name, side in both.items()},
        **{f"{name}_memory_mb": side["memory_mb"] for name, side in both.items()},
        "phases": {name: _split(side["seconds"]) for name, side in both.items()},
        **{
            key: {name: side[key] for name, side in both.items()}
            for key in ("images_encoded", "positions", "completion_length")
        },
        "rounds": {name: side["steps"] for name, side in both.items()},
    }


def _split(seconds: dict[str, float]) -> dict[str, float]:
    """Seconds by phase, what is left of the step as "other", and the step."""
    phases = {name: seconds.get(name, 0.0) for name in PHASES}
    return {**phases, "other": seconds["step"] - sum(phases.values()), "step": seconds["step"]}


def _state_mb(weights: Path) -> float:
    """Gradients and the two moments of AdamW, in float32."""
    with safe_open(weights, "pt") as file:
        numbers = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    return 3 * 4 * numbers / (1 << 20)


def table(line: dict[str, Any]) -> Table:
    """The same numbers for people."""
    sizes = line["sizes"]
    title = (
        f"GRPO step: {sizes['prompts']} prompts x {sizes['generations']}, {sizes['image_tokens']} image tokens, "
        f"completions of {sizes['completion_tokens']}, beta {sizes['beta']:g}, {sizes['threads']} threads"
    )
    shown = Table(
        "",
        title=title,
        caption=f"{line['compared']}: {line['against']} takes {line['speedup']:.2f} times as long as ours",
    )
    for column in ("ours", line["against"], "ratio"):
        shown.add_column(column, justify="right")
    rows = [(f"{name} s", "phases", name, ".3f") for name in line["phases"]["ours"]]
    rows += [(f"positions, {name}", "positions", name, ",.0f") for name in line["positions"]["ours"]]
    pairs = [(label, line[key]["ours"][name], line[key]["theirs"][name], form) for label, key, name, form in rows]
    pairs.append(("CPU s of a step", line["ours_cpu_s"], line["theirs_cpu_s"], ".3f"))
    pairs.append(("images encoded", line["images_encoded"]["ours"], line["images_encoded"]["theirs"], ",.0f"))
    pairs.append(("peak memory MB", line["ours_memory_mb"], line["theirs_memory_mb"], ",.0f"))
    lengths = line["completion_length"]
    pairs.append(("completion tokens", lengths["ours"], lengths["theirs"], ".1f"))
    for label, ours, theirs, form in pairs:
        cells = [format(value, form) if value else "" for value in (ours, theirs)]
        shown.add_row(label, *cells, f"{theirs / ours:.2f}" if ours and theirs else "")
    return shown


if __name__ == "__main__":
    main()
