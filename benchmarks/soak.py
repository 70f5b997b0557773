"""A long run: do memory, open files and threads stay flat, and what does a data file of a million lines cost?

  python -m benchmarks.soak --json benchmarks/results/soak.json --plot docs/images/soak.png

A real `vlm-r1 train` takes 5,000 steps of GRPO on a tiny model and a data file of 1,000,000 lines. This program watches
it from outside. Then it removes the last checkpoint, resumes from the one before, and compares the steps that are
trained again. The first steps of a run on 1,000 lines are the control: what the million costs is the difference.
The exit status is 1 if something grows.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml
from PIL import Image

from benchmarks.machine import Watch
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.run_folder import environment
from vlm_r1.synthetic import write_rec_dataset
from vlm_r1.testing import TinySize, write_tiny_qwen2_5_vl

ROOT = Path(__file__).resolve().parents[1]
_MB = 1 << 20
_PICTURES = 64
_SCALE = 4
"""Pictures are enlarged, so that the prompts of some 500 steps fill the gigabyte of `rollouts.env.CACHE_BYTES`."""
_LOOK_S = 0.5
_WARM_UP = 0.2
"""Share of the steps before memory is expected to be flat."""
_GROWTH_LIMIT = 0.02
"""Share of the memory after the warm-up by which the fitted line may rise to the end."""


@dataclass(frozen=True)
class Look:
    """What the process held after a step; `children` are other processes that it started."""

    step: int
    seconds: float
    rss_mb: float
    files: int
    threads: int
    children: int


def main() -> int:
    """Run, watch, resume; print what was found and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path, help="where to write the result")
    parser.add_argument("--plot", type=Path, help="where to draw it")
    args = parser.parse_args()
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    with tempfile.TemporaryDirectory() as folder, Watch() as machine:
        result = soak(Path(folder), args.steps, args.lines)
    about = {"date": date, "command": sys.argv[1:], "environment": environment(), "machine": machine.told}
    if args.json:
        args.json.write_text(json.dumps({**about, **result}) + "\n", encoding="utf-8")
    if args.plot:
        draw(result, args.plot)
    for sentence in sentences(result):
        print(sentence)
    return int(not result["flat"])


def soak(folder: Path, steps: int, lines: int) -> dict[str, Any]:
    """The whole experiment in a folder; returns the numbers."""
    seconds_to_write = write_data(folder, lines)
    control = watch(start(folder, "control", "few.jsonl", steps), folder / "control", 5)
    run = folder / "run"
    looks = watch(start(folder, "run", "many.jsonl", steps), run, steps)
    trained = untimed(run)
    last = max((run / "checkpoints").glob("step-*"))
    shutil.rmtree(last)
    resumed = watch(start(folder, "run", "many.jsonl", steps, "--resume"), run, steps - steps // 5 + 3)
    again = untimed(run)
    return {
        "steps": len(trained),
        "lines": lines,
        "file_mb": (folder / "many.jsonl").stat().st_size / _MB,
        "seconds_to_write_the_file": seconds_to_write,
        "seconds_to_first_step": {"1,000 lines": control[0].seconds, f"{lines:,} lines": looks[0].seconds},
        "seconds_to_first_resumed_step": resumed[0].seconds,
        "resumed_step": resumed[0].step,
        "resumed_steps_equal": again == trained[: len(again)] and len(again) >= resumed[0].step,
        "rss_mb_of_first_steps": {"1,000 lines": control[0].rss_mb, f"{lines:,} lines": looks[0].rss_mb},
        "bytes_per_line": (looks[0].rss_mb - control[0].rss_mb) * _MB / (lines - 1000),
        **flatness(looks),
        "looks": [asdict(look) for look in looks],
    }


def write_data(folder: Path, lines: int) -> float:
    """Write the model and two data files, of 1,000 lines and of `lines`, which share pictures; returns seconds."""
    start_s = time.perf_counter()
    counts = {"train": _PICTURES, "warmup": 1, "in_domain": 4, "out_of_domain": 1}
    files = write_rec_dataset(folder / "data", seed=0, counts=counts)
    base = [json.loads(line) for line in files["train"].read_text(encoding="utf-8").splitlines()]
    for row in base:
        enlarge(folder / "data" / row["image"])
    texts = [row["conversations"][0]["value"] for row in base]
    write_tiny_qwen2_5_vl(folder / "model", texts, seed=1, size=TinySize(num_hidden_layers=1, vision_depth=1))
    for name, n in (("few.jsonl", 1000), ("many.jsonl", lines)):
        with (folder / "data" / name).open("w", encoding="utf-8") as file:
            for number in range(n):
                row = base[number % len(base)]
                asked, answer = row["conversations"]
                gold = {**answer, "value": [_SCALE * edge for edge in answer["value"]]}
                told = {**asked, "value": f"{asked['value']} ({number})"}
                file.write(json.dumps({"id": number, "image": row["image"], "conversations": [told, gold]}) + "\n")
        (folder / "data" / name).rename(folder / name)
    return time.perf_counter() - start_s


def enlarge(path: Path) -> None:
    """Make a picture larger."""
    with Image.open(path) as picture:
        larger = picture.resize((picture.width * _SCALE, picture.height * _SCALE))
    larger.save(path)


def start(folder: Path, name: str, data: str, steps: int, *arguments: str) -> psutil.Popen:
    """Start `vlm-r1 train` in the run folder of that name."""
    every = steps // 5
    tree = {
        "output_dir": str(folder / name),
        "seed": 1,
        "model": {"path": str(folder / "model")},
        "data": {
            "train": [{"path": str(folder / data), "image_root": str(folder / "data")}],
            "eval": {"held": {"path": str(folder / "data" / "in_domain.jsonl")}},
            "template": "bare",
        },
        "sampling": {"max_completion_length": 4},
        "grpo": {"num_generations": 4},
        "rewards": {"accuracy": 1.0, "length": 1.0},
        "training": {
            "max_steps": steps,
            "prompts_per_step": 2,
            "learning_rate": 1e-4,
            "save_steps": every,
            "eval_steps": every,
            "max_tokens_per_micro_batch": 512,
        },
    }
    recipe = folder / f"{name}.yaml"
    recipe.write_text(yaml.safe_dump(tree), encoding="utf-8")
    variables = {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "vlm_r1.cli.main", "train", str(recipe), *arguments]
    with (folder / f"{name}.log").open("ab") as log:
        return psutil.Popen(command, env={**os.environ, **variables}, stdout=log, stderr=log)


def watch(process: psutil.Popen, run: Path, steps: int) -> list[Look]:
    """Look at the process after its steps, some 500 times, until it has taken `steps` of them; then end it.

    A process that takes all steps of its recipe is waited for.
    """
    began, looks, metrics = time.perf_counter(), list[Look](), run / "metrics.jsonl"
    old = metrics.stat().st_ino if metrics.exists() else 0
    while process.poll() is None and (not metrics.exists() or metrics.stat().st_ino == old):
        time.sleep(0.01)  # a resumption replaces the file by its lines up to the checkpoint
    before, every = count_lines(metrics), max(1, steps // 500)
    step = first = before()
    while process.poll() is None and step < steps:
        time.sleep(_LOOK_S if looks else 0.05)
        step = before()
        if step > first and (not looks or step >= looks[-1].step + every):
            try:
                looks.append(look(process, step, time.perf_counter() - began))
            except psutil.Error:  # it has just ended
                break
    if before() < steps or (is_last(run, before()) and process.wait() != 0):
        raise SystemExit(run.with_suffix(".log").read_text(encoding="utf-8")[-3000:])
    if process.poll() is None:
        process.kill()
        process.wait()
    return looks


def is_last(run: Path, step: int) -> bool:
    """Whether a step is the recipe's last."""
    return step >= yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))["training"]["max_steps"]


def count_lines(path: Path) -> Callable[[], int]:
    """Return a function that counts the lines of a growing file; it reads only what is new, or all if it has shrunk."""
    state = {"place": 0, "lines": 0}

    def count() -> int:
        if not path.exists():
            return 0
        with path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < state["place"]:
                state.update(place=0, lines=0)
            file.seek(state["place"])
            new = file.read()
        state["place"] += len(new)
        state["lines"] += new.count(b"\n")
        return state["lines"]

    return count


def look(process: psutil.Popen, step: int, seconds: float) -> Look:
    """Measure a process."""
    children = len(process.children(recursive=True))
    return Look(step, seconds, process.memory_info().rss / _MB, process.num_fds(), process.num_threads(), children)


def untimed(run: Path) -> list[dict[str, Any]]:
    """The metrics without what depends on the clock."""
    rows = read_metrics(run / "metrics.jsonl")
    return [{k: str(v) for k, v in row.items() if not k.startswith(("time/", "tokens_per_s/"))} for row in rows]


def flatness(looks: Sequence[Look]) -> dict[str, Any]:
    """Fit a line to the memory after the warm-up, and say whether anything grows.

    >>> def of(rss): return [Look(n, n, rss(n), 9, 3, 0) for n in range(100)]
    >>> flatness(of(lambda n: 500))["flat"], flatness(of(lambda n: 500 + n))["flat"]
    (True, False)
    """
    warm = [one for one in looks if one.step >= looks[-1].step * _WARM_UP]
    steps = np.array([one.step for one in warm], dtype=float)
    slope, base = np.polyfit(steps, np.array([one.rss_mb for one in warm]), 1)
    growth_mb, held_mb = slope * (steps[-1] - steps[0]), base + slope * steps[0]
    middle = len(warm) // 2
    counts = {
        name: [float(np.mean([getattr(one, name) for one in half])) for half in (warm[:middle], warm[middle:])]
        for name in ("files", "threads", "children")
    }
    grows = any(later > earlier + 0.5 for earlier, later in counts.values())
    return {
        "rss_mb_per_1000_steps": slope * 1000,
        "rss_mb_after_warm_up": held_mb,
        "mean_of_first_and_second_half": counts,
        "seconds_a_step": (warm[-1].seconds - warm[0].seconds) / max(steps[-1] - steps[0], 1),
        "flat": bool(growth_mb <= _GROWTH_LIMIT * held_mb) and not grows,
    }


def sentences(result: dict[str, Any]) -> list[str]:
    """The result for people."""
    counts = ", ".join(
        f"{name} {a:.2f} and {b:.2f}" for name, (a, b) in result["mean_of_first_and_second_half"].items()
    )
    return [
        f"{result['steps']:,} steps on {result['lines']:,} lines, {result['seconds_a_step']:.3f} s a step: "
        f"{'flat' if result['flat'] else 'NOT FLAT'}",
        f"memory {result['rss_mb_after_warm_up']:.0f} MB after the warm-up, {result['rss_mb_per_1000_steps']:+.2f} MB "
        f"per 1,000 steps; means of the first and second half: {counts}",
        f"a line of data: {result['bytes_per_line']:.0f} bytes of memory; the file: {result['file_mb']:.0f} MB",
        f"seconds to the first step: {result['seconds_to_first_step']}; to the first resumed step "
        f"({result['resumed_step']:,}): {result['seconds_to_first_resumed_step']:.1f}",
        f"steps trained again after a resumption are equal: {result['resumed_steps_equal']}",
    ]


def draw(result: dict[str, Any], path: Path) -> None:
    """Memory, and open files with threads, over the steps; all axes start at 0, so that flat looks flat."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    steps = [one["step"] for one in result["looks"]]
    above.plot(steps, [one["rss_mb"] for one in result["looks"]], linewidth=1)
    above.set_ylabel("memory (RSS), MB")
    for name, label in (("files", "open files"), ("threads", "threads"), ("children", "child processes")):
        below.plot(steps, [one[name] for one in result["looks"]], linewidth=1, label=label)
    below.set_xlabel(f"step, on a data file of {result['lines']:,} lines")
    below.legend()
    for axis in (above, below):
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    sys.exit(main())
