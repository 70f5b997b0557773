"""Two runs are told apart by every file, hidden ones too, and not by their clocks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmarks.survival.compare import contents, differences


def write_run(folder: Path, *, step_s: float = 1.0) -> Path:
    """A small run folder; only its seconds depend on the argument."""
    for name in ("rollouts", "checkpoints/step-000002/state", "eval"):
        (folder / name).mkdir(parents=True)
    rows = [{"step": n, "stage": "grpo", "loss": 0.5 / n, "time/step_s": step_s} for n in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.table({"text": ["a", "b"], "reward": [0.0, 1.0]}), folder / "rollouts/step-000001.parquet")
    (folder / "checkpoints/step-000002/model.safetensors").write_bytes(b"weights")
    (folder / "checkpoints/step-000002/state/history.json").write_text(str(step_s))
    (folder / "environment.json").write_text(json.dumps({"python": "3.11", "command": ["train", str(folder)]}))
    (folder / "eval/before-held.json").write_text('{"n": 3}')
    (folder / "summary.json").write_text(json.dumps({"seed": 3, "seconds": {"train": step_s}}))
    (folder / "config.yaml").write_text(f"output_dir: {folder}\nseed: 3\n")
    (folder / "report.html").write_text(f"{step_s} s")
    return folder


def test_clocks_and_places_do_not_count(tmp_path) -> None:
    runs = [write_run(tmp_path / name, step_s=seconds) for name, seconds in (("a", 1.0), ("b", 2.0))]
    assert differences(*map(contents, runs)) == []


def replace_text(name: str, old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text((folder / name).read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        pytest.param(replace_text("metrics.jsonl", "0.5", "0.50001"), "metrics.jsonl: differs", id="a number"),
        pytest.param(
            lambda folder: (folder / "metrics.jsonl").write_text((folder / "metrics.jsonl").read_text() * 2),
            "metrics.jsonl: differs",
            id="steps twice",
        ),
        pytest.param(
            lambda folder: pq.write_table(
                pa.table({"text": ["a", "c"], "reward": [0.0, 1.0]}), folder / "rollouts/step-000001.parquet"
            ),
            "rollouts/step-000001.parquet: differs",
            id="a completion",
        ),
        pytest.param(
            replace_text("checkpoints/step-000002/model.safetensors", "w", "W"),
            "checkpoints/step-000002/model.safetensors: differs",
            id="a weight",
        ),
        pytest.param(replace_text("summary.json", "3", "4"), "summary.json: differs", id="the summary"),
        pytest.param(replace_text("environment.json", "3.11", "3.12"), "environment.json: differs", id="a fact"),
        pytest.param(replace_text("config.yaml", "seed: 3", "seed: 4"), "config.yaml: differs", id="the config"),
        pytest.param(
            lambda folder: (folder / "eval/before-held.json").unlink(),
            "eval/before-held.json: only in the uninterrupted run",
            id="an evaluation missing",
        ),
        pytest.param(
            lambda folder: (folder / "checkpoints/.step-000004.tmp").mkdir(),
            "checkpoints/.step-000004.tmp/: only in the attacked run",
            id="a hidden folder left behind",
        ),
        pytest.param(
            lambda folder: (folder / ".summary.json.tmp").write_text(""),
            ".summary.json.tmp: only in the attacked run",
            id="a hidden file left behind",
        ),
    ],
)
def test_a_difference_is_found(change, line, tmp_path) -> None:
    whole, other = (write_run(tmp_path / name) for name in ("whole", "other"))
    change(other)
    found = differences(contents(whole), contents(other))
    assert line in found
    assert all(one.startswith(line.split(":")[0].rstrip("/").rsplit("/", 1)[0]) for one in found)
