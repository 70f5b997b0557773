"""How seconds and memory of the policy pass grow with G, with the prompt and with the images of a prompt.

  python -m benchmarks.growth [--layouts packed] [--json FILE] [--plot docs/images/growth.png]

Forward and backward of one group through `Policy`, packed and as rows, on the small random Qwen2.5-VL of
benchmarks/scenes.py in float32. One size varies at a time, the others stay at G = 8, 256 image tokens and one image.
Each point has a process of its own, which takes one pass to warm up and then passes for --seconds. Memory is the peak
growth of that process: activations and, at all points alike, 40 MB of gradients.

With a shared prompt, a further completion costs its own tokens only: seconds = a + b · G · C for a fixed prompt, where
rows pay for the prompt again each time. The line is fitted by least squares of the relative deviations.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.groups import image_tokens, load, make_batch, policy_pass, sizes_of, write_checkpoint
from benchmarks.machine import Seconds, Watch, median_of
from benchmarks.measure import MemoryGrowth, fresh_processes, seconds_of
from vlm_r1.cli.console import quiet_libraries
from vlm_r1.policy.logprobs import Policy
from vlm_r1.policy.packed import Layout
from vlm_r1.runtime.run_folder import environment

SWEEPS = {"generations": (1, 2, 4, 8, 16, 32), "image_tokens": (64, 128, 256, 512, 1024), "images": (1, 2, 3, 4)}
LABELS = {"generations": "completions G", "image_tokens": "tokens of the image", "images": "images of the prompt"}


@dataclass(frozen=True)
class Point:
    """What is measured in one process; `image_tokens` are those of each image."""

    layout: Layout
    completion_tokens: int
    generations: int = 8
    image_tokens: int = 256
    images: int = 1


@dataclass(frozen=True)
class Cost:
    """Median seconds of a pass, and the peak growth of its process."""

    seconds: float
    cpu_seconds: float
    memory_mb: float
    prompt_tokens: int
    passes: int


def main() -> None:
    """Measure all points; print a table for each sweep, the fits and one JSON line."""
    args = parse_arguments()
    quiet_libraries()
    torch.set_num_threads(args.threads)
    sweeps = {name: getattr(args, name) for name in SWEEPS if getattr(args, name)}
    with tempfile.TemporaryDirectory() as folder, Watch() as machine:
        write_checkpoint(Path(folder))
        costs = measure_all(Path(folder), sweeps, args)
    series = {
        name: {layout: chosen(costs, name, values, layout) for layout in args.layouts}
        for name, values in sweeps.items()
    }
    fits = {layout: fit(own) for layout, own in series.get("generations", {}).items() if len(own) > 2}
    console = Console()
    for name, by_layout in series.items():
        console.print(table(name, by_layout))
    for layout, line in fits.items():
        console.print(sentence(layout, line), highlight=False, soft_wrap=True)
    points = [{**asdict(point), **asdict(cost)} for point, cost in costs.items()]
    about = {"threads": args.threads, "environment": environment(), "machine": machine.told}
    result = json.dumps({"points": points, "fits": fits, **about})
    print(result)
    if args.json:
        args.json.write_text(result + "\n", encoding="utf-8")
    if args.plot:
        draw(series, fits, args.plot)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layouts", nargs="+", choices=("packed", "rows"), default=["packed", "rows"])
    for name, values in SWEEPS.items():
        option, shown = f"--{name.replace('_', '-')}", " ".join(map(str, values))
        kind = image_tokens if name == "image_tokens" else int
        parser.add_argument(option, nargs="*", type=kind, default=values, help=f"{LABELS[name]}, default {shown}")
    parser.add_argument("--completion-tokens", type=int, default=64, help="C")
    parser.add_argument("--seconds", type=float, default=2, help="of passes at each point; at least two are measured")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch")
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--plot", type=Path, help="where to draw them, e.g. growth.png")
    return parser.parse_args()


def measure_all(folder: Path, sweeps: Mapping[str, Sequence[int]], args: argparse.Namespace) -> dict[Point, Cost]:
    """Every point of every sweep, each once."""
    points = [
        replace(Point(layout, args.completion_tokens), **{name: value})
        for layout in args.layouts
        for name, values in sweeps.items()
        for value in values
    ]
    with fresh_processes() as processes:
        waiting = {
            point: processes.submit(measure, folder, point, args.seconds, args.threads)
            for point in dict.fromkeys(points)
        }
        return {point: cost.result() for point, cost in waiting.items()}


def measure(folder: Path, point: Point, seconds: float, threads: int) -> Cost:
    """Time and memory of one point in this process, which must be fresh."""
    quiet_libraries()
    torch.set_num_threads(threads)
    sizes = sizes_of(point.image_tokens, point.completion_tokens, point.generations, prompts=1, threads=threads)
    model, adapter = load(folder, sizes)
    batch, policy = make_batch(adapter, sizes, point.images), Policy(model, adapter, layout=point.layout)
    with MemoryGrowth() as memory:
        policy_pass(policy, batch)
    taken: list[Seconds] = []
    while len(taken) < 2 or sum(one.wall for one in taken) < seconds:
        taken.append(seconds_of(lambda: policy_pass(policy, batch)))
    middle = median_of(taken)
    return Cost(middle.wall, middle.cpu, memory.mb, len(batch.prompts[0].ids_L), len(taken))


def chosen(costs: Mapping[Point, Cost], name: str, values: Sequence[int], layout: Layout) -> dict[Point, Cost]:
    """The points of one sweep and layout, in order."""
    fixed = next(point for point in costs if point.layout == layout)
    base = Point(layout, fixed.completion_tokens)
    return {point: costs[point] for point in (replace(base, **{name: value}) for value in values)}


def fit(costs: Mapping[Point, Cost]) -> dict[str, float]:
    """seconds = a + b · G · C: the line of least relative deviations, its R² and its largest relative deviation."""
    tokens = np.array([point.generations * point.completion_tokens for point in costs], dtype=float)
    seconds = np.array([cost.seconds for cost in costs.values()])
    b, a = np.polyfit(tokens, seconds, 1, w=1 / seconds)
    left = seconds - (a + b * tokens)
    r2 = 1 - (left**2).sum() / ((seconds - seconds.mean()) ** 2).sum()
    return {"a": float(a), "b": float(b), "r2": float(r2), "largest_deviation": float(np.abs(left / seconds).max())}


def sentence(layout: str, line: Mapping[str, float]) -> str:
    """A fit for people."""
    return (
        f"{layout}: seconds = {line['a']:.3f} + {line['b'] * 1e3:.3f}/1000 · G · C, R² {line['r2']:.4f}, "
        f"largest deviation of a point {line['largest_deviation']:.0%}"
    )


def table(name: str, by_layout: Mapping[str, Mapping[Point, Cost]]) -> Table:
    """One sweep, a row for each value."""
    one = next(iter(next(iter(by_layout.values()))))
    title = f"policy pass of one group, completions of {one.completion_tokens}"
    shown = Table(LABELS[name], "prompt", title=title)
    for layout in by_layout:
        shown.add_column(f"{layout} s", justify="right")
        shown.add_column("CPU s", justify="right")
        shown.add_column("MB", justify="right")
    for row in zip(*(own.items() for own in by_layout.values()), strict=True):
        point, cost = row[0]
        cells = [
            cell
            for _, cost in row
            for cell in (f"{cost.seconds:.3f}", f"{cost.cpu_seconds:.3f}", f"{cost.memory_mb:,.0f}")
        ]
        shown.add_row(str(getattr(point, name)), str(cost.prompt_tokens), *cells)
    return shown


def draw(series: Mapping[str, Mapping[str, Mapping[Point, Cost]]], fits: Mapping[str, Any], path: Path) -> None:
    """Seconds above, memory below, a column for each sweep; both axes start at 0, so that a line is a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(series), 6), layout="constrained")
    axes = figure.subplots(2, len(series), squeeze=False)
    for column, (name, by_layout) in enumerate(series.items()):
        for layout, own in by_layout.items():
            x = [getattr(point, name) for point in own]
            axes[0, column].plot(x, [cost.seconds for cost in own.values()], "o-", label=layout)
            axes[1, column].plot(x, [cost.memory_mb for cost in own.values()], "o-", label=layout)
        axes[1, column].set_xlabel(LABELS[name])
    for row, label in enumerate(("seconds", "peak memory, MB")):
        axes[row, 0].set_ylabel(label)
    if line := fits.get("packed"):
        axes[0, 0].set_title(f"packed: {line['a']:.2f} s + {line['b'] * 1e3:.2f} ms per token", fontsize="medium")
    for axis in axes.flat:
        axis.set_ylim(bottom=0)
        axis.set_xlim(left=0)
        axis.grid(alpha=0.3)
    axes[0, 0].legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
