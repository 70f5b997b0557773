"""A run on some records of its files: what it draws, says and keeps, and that a resumed run goes on with the same."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console

from testing_commands import in_two_processes
from vlm_r1.cli.main import main
from vlm_r1.config import DataSource, load_config
from vlm_r1.data.records import RecordFile
from vlm_r1.errors import CheckpointError
from vlm_r1.evaluation.samples import samples_path
from vlm_r1.grpo.trainer import train
from vlm_r1.runtime.progress import Display
from vlm_r1.runtime.rollout_log import read_rollouts, rollouts_path

STEPS = 2


def drawn(folder):
    """Sources of the records of all steps."""
    return [row.source for step in range(1, STEPS + 1) for row in read_rollouts(rollouts_path(folder, step))]


@pytest.fixture
def options(rec_files):
    return {
        "data.train": [{"path": str(rec_files["train"]), "sampling_strategy": "random:8"}],
        "data.eval": {"in_domain": {"path": str(rec_files["in_domain"]), "sampling_strategy": "end:25%"}},
        "training.max_steps": STEPS,
        "training.save_steps": 1,
    }


def test_a_run_draws_the_chosen_records_says_so_and_goes_on_with_them(options, recipe, rec_files, tmp_path, capsys):
    path = recipe(**options)
    console = Console(file=StringIO(), width=300)
    train(load_config(path), display=Display(console))
    source = DataSource(path=str(rec_files["train"]), sampling_strategy="random:8")
    chosen = [record.source for record in RecordFile(source, seed=3)]
    assert set(drawn(tmp_path / "run")) == set(chosen)  # two steps of four records are one epoch of eight
    lines = (
        f"data {rec_files['train']}: 8 of 48 records (random:8)",
        "held out in_domain: 3 of 12 records (end:25%), of which 0 show pictures that are trained on",
    )
    shown = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert all(line in shown for line in lines)
    kept = json.loads((tmp_path / "run/environment.json").read_text())["records"]
    assert kept["train"] == [{"path": str(rec_files["train"]), "records": 8, "of": 48, "sampling_strategy": "random:8"}]
    held = json.loads((tmp_path / "run/eval/after-in_domain.json").read_text())
    assert held["n"] == 3
    answered = samples_path(tmp_path / "run/eval/after-in_domain.json").read_text().splitlines()
    assert [json.loads(line)["source"].rpartition(":")[2] for line in answered] == ["10", "11", "12"]
    with pytest.raises(CheckpointError, match=r"data\.train\.0\.sampling_strategy: run 'random:8', now 'first:8'"):
        train(load_config(path, ["--data.train.0.sampling_strategy=first:8"]), resume=True)
    assert main(["train", str(path), "--dry-run", "--output_dir", str(tmp_path / "new")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert all(line in said for line in lines)


def test_two_processes_choose_alike(options, recipe, tmp_path):
    path = recipe(**options)
    done = in_two_processes("-m", "vlm_r1.cli.main", "train", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    source = load_config(path).data.train[0]
    assert set(drawn(tmp_path / "run")) == {record.source for record in RecordFile(source, seed=3)}


def test_the_check_of_a_file_looks_at_the_same_records(rec_files, capsys):
    """`--sampling-seed` is the recipe's seed."""
    arguments = ["data", "check", str(rec_files["train"]), "--sampling-strategy", "random:8", "--sampling-seed", "3"]
    assert main([*arguments, "--template", "bare"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "looked at 8 of 48 records (random:8)" in said
    assert "good records 8" in said
    source = DataSource(path=str(rec_files["train"]), sampling_strategy="random:8")
    assert f"as it is asked ({RecordFile(source, seed=3)[0].source})" in said
    assert main(["data", "check", str(rec_files["train"]), "--sampling-seed", "3"]) != 0
    assert "--sampling-seed has no effect without" in capsys.readouterr().err
