"""Runs whose reward misbehaves: one process, and one of two. They end in bounded time and say which function it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import vlm_r1
from testing_commands import assert_equal
from vlm_r1.cli.main import main
from vlm_r1.runtime.metrics_log import read_metrics

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
    "is mended": ("pass", ""),
    "threads stay": ("import threading; threading.Thread(target=time.sleep, args=(600,)).start()", ""),
    "pool stays": ("from concurrent.futures import ThreadPoolExecutor as E; E(1).submit(time.sleep, 600)", ""),
    "a forked pool stays": (
        "from concurrent.futures import ProcessPoolExecutor as E; E(1).submit(time.sleep, 20)",
        "",
    ),
    "forks": ("os.fork()", ""),
    "forks and exits": ("os.fork() or sys.exit()", ""),
}
PATHS = [str(Path(file).parents[1]) for file in (vlm_r1.__file__, __file__)]


@pytest.fixture
def run(tmp_path, recipe):
    """`run("hangs", processes=2)`: a run whose second step has that reward on the last process."""

    def start(
        act: str, processes: int, *more: str, timeout_s: float = 3.0, resume: bool = False, **options: object
    ) -> subprocess.CompletedProcess[str]:
        (tmp_path / "bad_in_a_run.py").write_text(BAD.replace("ACT", ACTS[act][0]), encoding="utf-8")
        rewards = {"accuracy": 1.0, "bad_in_a_run:bad_later": 1.0} | {f"bad_in_a_run:{name}": 1.0 for name in more}
        path = recipe(rewards=rewards, reward_timeout_s=timeout_s, **options)
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        command = [sys.executable, *(launcher if processes > 1 else []), "-m", "vlm_r1.cli.main", "train", str(path)]
        command += ["--resume"] if resume else []
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*PATHS, str(tmp_path)]), "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240)

    return start


@pytest.mark.parametrize(
    "act",
    [
        "raises",
        pytest.param("exits", marks=pytest.mark.long),
        "hangs",
        pytest.param("ends the process", marks=pytest.mark.long),
    ],
)
def test_one_of_two_processes(act, run, tmp_path):
    done = run(act, 2)  # bounded: `run` waits for 240 s
    assert done.returncode != 0
    assert 'reward "bad_in_a_run:bad_later"' in done.stderr
    assert ACTS[act][1] in done.stderr
    assert "train.jsonl:" in done.stderr
    assert not (tmp_path / "run/summary.json").exists()


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.long)])
def test_an_error_is_told_once_and_the_steps_before_it_are_saved(processes, rec_files, run, tmp_path):
    """When the reward is mended, the resumed run is equal to one in which it was never wrong."""
    held_out = {"data.eval": {"in_domain": {"path": str(rec_files["in_domain"])}}}
    done = run("raises", processes, **held_out)
    assert done.returncode != 0
    assert done.stderr.count(ACTS["raises"][1]) == (1 if processes == 1 else 2)  # torchrun repeats the first one's
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-000001"]
    done = run("is mended", processes, resume=True, **held_out)
    assert done.returncode == 0, done.stderr
    (tmp_path / "run").rename(tmp_path / "resumed")
    done = run("is mended", processes, **held_out)
    assert done.returncode == 0, done.stderr
    assert_equal(tmp_path / "resumed", tmp_path / "run")


def test_an_error_in_an_evaluation_is_told_once_and_saved(rec_files, run, tmp_path):
    """The error is in the second process, in the evaluation after the first step."""
    held_out = {"data.eval": {"in_domain": {"path": str(rec_files["in_domain"])}}, "training.eval_steps": 1}
    done = run("raises", 2, **held_out)
    assert done.returncode != 0
    assert done.stderr.count(ACTS["raises"][1]) == 2
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["step-000001"]
    assert not list((tmp_path / "run/eval").glob("step-*"))


@pytest.mark.parametrize("act", ["threads stay", pytest.param("pool stays", marks=pytest.mark.long)])
def test_threads_that_a_reward_left_do_not_keep_a_finished_run(act, run, tmp_path):
    done = run(act, 1)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run/report.html").exists()
    assert "a reward left threads behind that do not end" in done.stderr


@pytest.mark.parametrize(
    "act", ["forks", "forks and exits", pytest.param("a forked pool stays", marks=pytest.mark.long)]
)
def test_a_forked_process_does_not_train_too(act, run, tmp_path):
    """It would write the same steps again, and save checkpoints when it fails."""
    done = run(act, 1)
    assert done.returncode == 0, done.stderr
    assert [row["step"] for row in read_metrics(tmp_path / "run/metrics.jsonl")] == [1, 2, 3]
    assert "RewardError" not in done.stderr
    assert done.stdout.count("report  ") == 1


@pytest.mark.long
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
