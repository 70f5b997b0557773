"""How long each command takes that a user waits for, from the shell's point of view: its start and imports included.

  OMP_NUM_THREADS=1 python -m benchmarks.commands                        # some minutes; wants a quiet machine
  OMP_NUM_THREADS=1 python -m benchmarks.commands --before OTHER/src     # beside an older checkout of this project
  OMP_NUM_THREADS=1 python -m benchmarks.commands --records 100 --rounds 1

A table, and one JSON line with the same numbers: processor seconds (user and system, child processes included) and
seconds of the clock, of the round that took least. The data are records with one JPEG of 640 x 480 each, in one file
of lines and as a YOLO folder; the run is three steps of a tiny model. A command that the older checkout does not know,
or that cannot read the newer run, has no number there. `ask` also says what the model alone took.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.table import Table

import vlm_r1
from benchmarks.machine import Seconds, Watch
from vlm_r1.testing import write_tiny

SIZE = (640, 480)
STEPS = "--training.max_steps=3 --training.prompts_per_step=2 --training.eval_steps=0 --grpo.num_generations=4"
COMMANDS = {
    "--help": "--help",
    "data convert yolo": "data convert yolo yolo --out NEW.jsonl",
    "data check": "data check yolo/records.jsonl --task ovd",
    "data check --page": "data check yolo/records.jsonl --task ovd --page NEW.html",
    "new": "new NEW.yaml --data yolo/records.jsonl --gpu 24GB --model tiny",
    "train --rehearse": "train recipe.yaml --rehearse",
    "doctor": "doctor run",
    "report": "report run",
    "ask": "ask run yolo/images/0.jpg disc,square --task ovd --max-completion-length 64",
    "export": "export run --to NEW",
}
"""What is said of it → the command; NEW is a name that is not there yet."""


def write_data(folder: Path, n: int) -> None:
    """Write pictures of one or two coloured objects, as a YOLO folder with the same records as lines."""
    draw = random.Random(0)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    names, lines = ("disc", "square"), []
    for number in range(n):
        image, objects, labels = Image.effect_noise(SIZE, 40).convert("RGB"), [], []
        for kind in range(draw.randint(1, 2)):
            x, y, side = draw.randrange(500), draw.randrange(350), draw.randrange(20, 120)
            image.paste(("red", "blue")[kind], (x, y, x + side, y + side))
            objects.append({"bbox_2d": [x, y, x + side, y + side], "label": names[kind]})
            scaled = ((x + side / 2) / SIZE[0], (y + side / 2) / SIZE[1], side / SIZE[0], side / SIZE[1])
            labels.append(" ".join([str(kind), *map(str, scaled)]))
        image.save(folder / f"images/{number}.jpg", quality=90)
        (folder / f"labels/{number}.txt").write_text("\n".join(labels))
        lines.append(json.dumps({"image": f"images/{number}.jpg", "problem": ", ".join(names), "answer": objects}))
    (folder / "data.yaml").write_text("train: images\nnames: [disc, square]\n")
    (folder / "records.jsonl").write_text("\n".join(lines))


def run(command: str, folder: Path, source: Path) -> subprocess.CompletedProcess[str]:
    """Give a command of the checkout whose packages lie in `source`."""
    environment = {**os.environ, "PYTHONPATH": str(source), "HF_HUB_OFFLINE": "1"}
    words = [sys.executable, "-m", "vlm_r1.cli.main", *command.split()]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def measure(command: str, folder: Path, source: Path, rounds: int) -> tuple[Seconds, str] | None:
    """Return the least seconds of some rounds, and what was said; None if the checkout cannot do it."""
    found: list[tuple[Seconds, str]] = []
    for _ in range(rounds):
        new = f"new{time.monotonic_ns()}"
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = run(command.replace("NEW", new), folder, source)
        wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode == 2:
            return None
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        told = re.search(r"the model took [\d.]+ s", done.stdout + done.stderr)
        found.append((Seconds(wall, cpu), told[0] if told else ""))
    return min(found, key=lambda one: one[0].cpu)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path, help="src of an older checkout")
    args = parser.parse_args()
    sources = {"now": Path(vlm_r1.__file__).parents[1], **({"before": args.before.resolve()} if args.before else {})}
    with tempfile.TemporaryDirectory() as made, Watch() as machine:
        folder = Path(made)
        write_data(folder / "yolo", args.records)
        write_tiny("qwen2_5_vl", folder / "tiny", (folder / "yolo/records.jsonl").read_text().splitlines()[:50])
        recipe = "data: {train: [{path: yolo/records.jsonl, task: ovd}]}\nmodel: {path: tiny}\noutput_dir: run\n"
        (folder / "recipe.yaml").write_text(f"{recipe}sampling: {{max_completion_length: 64}}\n")
        made_run = run(f"train recipe.yaml {STEPS}", folder, sources["now"])
        if made_run.returncode:
            sys.exit(made_run.stderr)
        found = {
            name: {when: measure(command, folder, source, args.rounds) for when, source in sources.items()}
            for name, command in COMMANDS.items()
        }
    table = Table("command", *(f"{when}: CPU s, clock s" for when in sources), "said")
    for name, by_time in found.items():
        cells = [f"{one[0].cpu:.2f}, {one[0].wall:.2f}" if one else "–" for one in by_time.values()]
        now = by_time["now"]
        table.add_row(name, *cells, now[1] if now else "")
    Console().print(table)
    print(json.dumps({"commands": found, "records": args.records, "machine": machine.told}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
