"""Runs whose reward misbehaves: one process, and one of two. They end in bounded time and say which function it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import vlm_r1
from vlm_r1.cli.main import main

BAD = """
import os, sys, time

def bad_later(completions, trainer_state, **columns):
    # on gold answers, before the model is loaded, and in the first step all is well
    if trainer_state.global_step == 1 and os.environ.get("RANK", "1") == "1":
        ACT
    return [float(len(c[0]["content"])) for c in completions]

def slow_on_the_other(completions, trainer_state, **columns):
    if trainer_state.global_step == 1 and os.environ.get("RANK") == "0":
        time.sleep(300)  # as a process that waits in NCCL for one that is gone
    return [0.0] * len(completions)
"""
ACTS = {
    "raises": ("raise ValueError('x')", "raised ValueError: x (bad_in_a_run.py:7)"),
    "exits": ("sys.exit(0)", "raised SystemExit: 0 (bad_in_a_run.py:7)"),
    "hangs": ("time.sleep(1e6)", "gave no answer within 3 s (bad_in_a_run.py:7): raise reward_timeout_s"),
    "ends the process": ("os._exit(0)", "ended the process"),
}
PATHS = [str(Path(file).parents[1]) for file in (vlm_r1.__file__, __file__)]


@pytest.fixture
def run(tmp_path, recipe):
    """`run("hangs", processes=2)`: a run whose second step has that reward on the last process."""

    def start(act: str, processes: int, *more: str, timeout_s: float = 3.0) -> subprocess.CompletedProcess[str]:
        (tmp_path / "bad_in_a_run.py").write_text(BAD.replace("ACT", ACTS[act][0]), encoding="utf-8")
        rewards = {"accuracy": 1.0, "bad_in_a_run:bad_later": 1.0} | {f"bad_in_a_run:{name}": 1.0 for name in more}
        path = recipe(rewards=rewards, reward_timeout_s=timeout_s)
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        command = [sys.executable, *(launcher if processes > 1 else []), "-m", "vlm_r1.cli.main", "train", str(path)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*PATHS, str(tmp_path)]), "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240)

    return start


@pytest.mark.parametrize("act", ACTS)
def test_one_of_two_processes(act, run, tmp_path):
    done = run(act, 2)  # bounded: `run` waits for 240 s
    assert done.returncode != 0
    assert 'reward "bad_in_a_run:bad_later"' in done.stderr
    assert ACTS[act][1] in done.stderr
    assert "train.jsonl:" in done.stderr
    assert not (tmp_path / "run/summary.json").exists()


def test_a_lost_process_ends_others_that_wait_for_it(run, tmp_path):
    done = run("ends the process", 2, "slow_on_the_other", timeout_s=600.0)
    assert done.returncode != 0
    assert 'reward "bad_in_a_run:bad_later" ended the process' in done.stderr
    assert not (tmp_path / "run/summary.json").exists()


@pytest.mark.parametrize("act", ["hangs", "exits"])
def test_one_process(act, run, tmp_path):
    done = run(act, 1)
    assert done.returncode == 2
    assert ACTS[act][1] in done.stderr
    assert done.stderr.count("RewardError") == 1


def test_a_process_that_ends_itself_leaves_an_unfinished_run(run, tmp_path):
    done = run("ends the process", 1)
    assert 'reward "bad_in_a_run:bad_later" ended the process' in done.stderr
    assert not (tmp_path / "run/summary.json").exists()


def test_seconds_of_each_component_are_a_metric(recipe, tmp_path):
    assert main(["train", str(recipe(**{"training.max_steps": 1}))]) == 0
    [row] = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    seconds = {name: row[f"time/rewards/{name}_s"] for name in ("accuracy", "format", "testing_rewards:letters")}
    assert all(0 < s < row["time/score_s"] for s in seconds.values())
    assert sum(seconds.values()) < row["time/score_s"]
