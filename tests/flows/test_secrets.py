"""A key that a reward needs is in no file, page or message of a run, and the run can be resumed."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from testing_commands import PATHS, start
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


KEY = "sk-S3CRET-0123456789"
TELLING = """
import logging, os, warnings

class Judge:
    def __init__(self, api_key="", act=""):
        self.key, self.act = api_key or os.environ["TESTING_API_KEY"], act

    def __call__(self, completions, log_metric=None, log_extra=None, **columns):
        if self.act == "logs":
            log_metric("cost/" + self.key, 1.0)
            log_extra(self.key, [{"headers": [self.key, "Judge said: ok"]}] * len(completions))
            logging.warning("asked with %s", self.key)
            warnings.warn("asked with " + self.key)
            print("asked with", self.key)
        if self.act == "raises":
            raise ValueError("Incorrect API key provided: " + self.key)
        if self.act == "leaves":
            os._exit(3)
        return [1.0] * len(completions)
"""
GIVEN = {"written out": f'api_key="{KEY}", ', "by name": 'api_key="$TESTING_API_KEY", ', "in the environment": ""}


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("act", ["logs", "raises", "leaves"])
def test_a_reward_that_tells_its_key_is_masked(act: str, given: str, recipe, tmp_path):
    """Whatever it logs, prints, warns or raises; the control is what stands beside the key."""
    (tmp_path / "telling.py").write_text(TELLING, encoding="utf-8")
    path = recipe(
        **{"rewards": {"accuracy": 1.0, f'telling:Judge({GIVEN[given]}act="{act}")': 1.0}, "training.max_steps": 1}
    )
    done = start("train", str(path), TESTING_API_KEY=KEY, PYTHONPATH=f"{PATHS}:{tmp_path}")
    output = "".join(done.communicate())
    assert done.returncode == {"logs": 0, "raises": 2, "leaves": 3}[act], output
    path.unlink()
    assert KEY not in output + (all_text(tmp_path / "run") if act == "logs" else "")
    if act == "logs":
        assert "Judge said: ok" in all_text(tmp_path / "run")
        assert output.count("asked with ***") >= 3
    else:
        assert "Incorrect API key provided: ***" in output or "ended the process" in output


def test_processes_that_score_mask_the_key_too(tmp_path):
    """They alone know the value of the variable: the first process makes no reward."""
    (tmp_path / "telling.py").write_text(TELLING, encoding="utf-8")
    row = {"completion": "<answer>a</answer>", "solution": "a", "task": "vqa"}
    (tmp_path / "cases.jsonl").write_text(f"{json.dumps(row)}\n" * 3, encoding="utf-8")
    reward = 'telling:Judge(api_key="$TESTING_API_KEY", act="raises")'
    words = ["score", str(tmp_path / "cases.jsonl"), "--reward", reward, "--workers", "2", "--out"]
    done = start(*words, str(tmp_path / "out"), TESTING_API_KEY=KEY, PYTHONPATH=f"{PATHS}:{tmp_path}")
    output = "".join(done.communicate())
    assert done.returncode == 2
    assert "Incorrect API key provided: ***" in output
    assert KEY not in output


def test_a_traceback_shows_no_key(recipe, tmp_path):
    """A bug is a traceback, and a line or message of it may hold a key. Here the bug is in a sampler of one's own."""
    program = f"def make(policy, section):\n    raise ZeroDivisionError(\"asked with api_key='{KEY}'\")\n"
    (tmp_path / "buggy.py").write_text(program, encoding="utf-8")
    done = start("train", str(recipe(**{"sampling.engine": "buggy:make"})), PYTHONPATH=f"{PATHS}:{tmp_path}")
    _, errors = done.communicate()
    assert done.returncode == 1
    assert "Traceback" in errors
    assert errors.endswith('ZeroDivisionError: asked with api_key="***"\n')
    assert KEY not in errors
