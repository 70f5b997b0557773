"""What is written does not depend on the order of sets: the same commands under two hash seeds write the same bytes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = """
import json
from pathlib import Path
from vlm_r1.cli.main import main

def run(command):
    assert main(command.split()) == 0, command

Path("control.txt").write_text(" ".join({f"name {n}" for n in range(20)}))
run("train recipe.yaml")
metrics, summary = Path("run/metrics.jsonl"), Path("run/summary.json")
steps = [json.loads(line) for line in metrics.read_text().splitlines()]  # every time is a second from here on
timed = [{key: 1 if key.startswith(("time/", "tokens_per_s/")) else n for key, n in step.items()} for step in steps]
metrics.write_text("".join(json.dumps(step) + chr(10) for step in timed))
summary.write_text(json.dumps({**json.loads(summary.read_text()), "seconds": {"train": 1}}))
run("report run")
run("data check rec/train.jsonl --template bare --page data.html")
run("eval run/model rec/in_domain.jsonl --out eval --batch-size 4")
result = Path("eval/in_domain.json")
content = json.loads(result.read_text())
content["provenance"]["date"] = 1
result.write_text(json.dumps(content))
"""


def written(folder: Path) -> dict[str, bytes]:
    """Every file that the commands wrote."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith(("rec/", "tiny/"))}


def without_times(printed: str) -> str:
    """Without the lines that come every 15 seconds, and without the seconds in others."""
    lines = [re.sub(r"[0-9.]+ ?s\b", "", line) for line in printed.splitlines()]
    return "\n".join(line for line in lines if not (part := re.search(r" (\d+)/(\d+) ", line)) or part[1] == part[2])


@pytest.fixture(scope="module")
def twice(tmp_path_factory, tiny_checkpoint, rec_files) -> list[dict[str, bytes]]:
    """What two processes wrote into the same folder that differ in their hash seed alone."""
    folder, runs = tmp_path_factory.mktemp("order") / "work", []
    for seed in ("1", "2"):
        shutil.copytree(tiny_checkpoint, folder / "tiny")
        shutil.copytree(rec_files["train"].parent, folder / "rec")
        (folder / "recipe.yaml").write_text(RECIPE)
        environment = {**os.environ, "PYTHONHASHSEED": seed, "COLUMNS": "200"}
        done = subprocess.run(
            [sys.executable, "-c", COMMANDS], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        runs.append({**written(folder), "printed": without_times(done.stdout).encode()})
        folder.rename(folder.with_name(seed))
    return runs


RECIPE = """
output_dir: run
model: {path: tiny}
data:
  template: bare
  train: [{path: rec/train.jsonl}]
  eval: {held: {path: rec/in_domain.jsonl}}
rewards: {accuracy: 1.0, format: 0.5, length: 0.1, repetition: 0.1}
sampling: {max_completion_length: 8}
grpo: {num_generations: 4}
training: {max_steps: 1, prompts_per_step: 4, eval_batch_size: 4}
"""


def test_two_hash_seeds_write_the_same_bytes(twice) -> None:
    first, second = twice
    assert first["control.txt"] != second["control.txt"], "the seeds do order sets differently"
    assert first.keys() == second.keys()
    assert {"run/metrics.jsonl", "run/report.html", "data.html", "eval/in_domain.json"} <= first.keys()
    of_times = {name for name in first if name.endswith(("state/history.json", "step-000001/manifest.json"))}
    assert len(of_times) == 2, "they hash metrics.jsonl, which holds seconds"
    assert {name for name in first if first[name] != second[name]} - of_times == {"control.txt"}
