"""A key that a reward needs is in no file, page or message of a run, and the run can be resumed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from vlm_r1.cli.main import main

SPEC = 'testing_rewards:Keyed(api_key="S3CRET")'
BY_NAME = 'testing_rewards:Keyed(api_key="$TESTING_KEY")'


def all_text(folder: Path) -> str:
    """The bytes of every file of a run but its weights, Parquet decoded."""
    texts = [str(pq.read_table(file).to_pylist()) for file in folder.rglob("*.parquet")]
    files = [file for file in folder.rglob("*") if file.is_file() and file.suffix not in (".parquet", ".bin")]
    return "\n".join([*texts, *(file.read_bytes().decode("latin-1") for file in files)])


def arguments(path: Path, spec: str, *more: str) -> list[str]:
    rewards = f"--rewards={{'{spec}': 1.0, accuracy: 1.0}}"
    return ["train", str(path), rewards, f"--data.train.0.reward={spec}", "--training.max_steps=2", *more]


@pytest.mark.parametrize(("spec", "shown"), [(SPEC, 'api_key="***"'), (BY_NAME, 'api_key="$TESTING_KEY"')])
def test_a_key_is_nowhere_in_a_run_and_the_run_can_be_resumed(recipe, capsys, monkeypatch, spec: str, shown: str):
    monkeypatch.setenv("TESTING_KEY", "S3CRET")
    path = recipe(**{"training.save_steps": 1})
    monkeypatch.setattr(sys, "argv", ["vlm-r1", *arguments(path, spec)])
    assert main(arguments(path, spec)) == 0
    run = path.parent / "run"
    text, printed = all_text(run), "".join(capsys.readouterr())
    assert "S3CRET" not in text + printed
    for file in ("config.yaml", "environment.json", "metrics.jsonl", "report.html"):
        page = (run / file).read_text(encoding="utf-8").replace("&#34;", '"').replace('\\"', '"')
        assert shown in page, file
    assert main(arguments(path, spec, "--resume")) == 0
    status = main(["train", str(run / "config.yaml"), "--resume"])
    assert status == (0 if spec == BY_NAME else 2)
    message = capsys.readouterr().err
    assert spec == BY_NAME or re.search(r"was masked when .* must be given again", message)


def test_errors_and_dry_runs_show_no_key(recipe, capsys):
    path = recipe()
    for spec in (SPEC.replace(")", ", fails=True)"), SPEC.replace("Keyed", "Missing"), SPEC.replace(")", ", x=1)")):
        assert main(arguments(path, spec, "--dry-run")) == 2
        printed = "".join(capsys.readouterr())
        assert "S3CRET" not in printed
        assert "testing_rewards:" in printed
    assert main(arguments(path, BY_NAME.replace("$TEST", "$NO_TEST"), "--dry-run")) == 2
    assert "the environment has no NO_TESTING_KEY" in capsys.readouterr().err
    assert main(arguments(path, SPEC, "--dry-run")) == 0
    assert "S3CRET" not in "".join(capsys.readouterr())
