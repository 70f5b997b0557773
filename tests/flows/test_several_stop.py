"""Several processes stop together: at a signal saved, and if one fails or dies at once, with its message."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testing_commands import PATHS, PATIENCE_S, assert_equal, in_two_processes, wait_for_steps
from vlm_r1.runtime.metrics_log import read_metrics

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


def launch(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a process group of its own, as a shell makes
    )


def test_a_signal_to_the_launcher_stops_all_saved(recipe, rec_files, tmp_path) -> None:
    options = {
        "training.max_steps": 12,
        "training.eval_steps": 5,
        "data.eval": {"in_domain": {"path": str(rec_files["in_domain"])}},
    }
    done = in_two_processes(
        "-m", "vlm_r1.cli.main", "train", str(recipe(**options, output_dir=str(tmp_path / "whole")))
    )
    assert done.returncode == 0, done.stderr
    path, folder = str(recipe(**options, output_dir=str(tmp_path / "stopped"))), tmp_path / "stopped"
    process = launch(*TORCHRUN, "-m", "vlm_r1.cli.main", "train", path)
    wait_for_steps(folder, 3, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=PATIENCE_S)
    steps = len(read_metrics(folder / "metrics.jsonl"))
    assert 3 <= steps < 12
    command = f"torchrun --nproc_per_node 2 -m vlm_r1.cli.main train {folder}/config.yaml --resume"
    assert errors.count(f"stopped at step {steps} of 12 (SIGTERM); go on with: {command}\n") == 1
    assert json.loads((folder / "environment.json").read_text())["processes"] == 2
    assert (folder / "report.html").exists()
    done = in_two_processes("-m", "vlm_r1.cli.main", "train", str(folder / "config.yaml"), "--resume")
    assert done.returncode == 0, done.stderr
    assert_equal(folder, tmp_path / "whole")


def test_a_signal_to_one_process_stops_all_saved(recipe, tmp_path) -> None:
    path, folder = str(recipe(**{"training.max_steps": 40})), tmp_path / "run"
    process = launch(*TORCHRUN, "-m", "vlm_r1.cli.main", "train", path)
    wait_for_steps(folder, 3, process)
    os.kill(_child(process.pid, rank=1), signal.SIGUSR1)
    _, errors = process.communicate(timeout=PATIENCE_S)
    steps = len(read_metrics(folder / "metrics.jsonl"))
    assert f"stopped at step {steps} of 40 (SIGUSR1); go on with: torchrun" in errors
    assert [one.name for one in (folder / "checkpoints").iterdir()] == [f"step-{steps:06d}"]
    assert "exitcode  : 138" in errors


@pytest.mark.long
def test_ctrl_c_reaches_all_twice_and_counts_once(recipe, tmp_path) -> None:
    """A terminal sends it to the whole process group, and torchrun once more to its processes."""
    process = launch(*TORCHRUN, "-m", "vlm_r1.cli.main", "train", str(recipe(**{"training.max_steps": 40})))
    wait_for_steps(tmp_path / "run", 3, process)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE_S)
    steps = len(read_metrics(tmp_path / "run/metrics.jsonl"))
    assert f"stopped at step {steps} of 40 (SIGINT); go on with: torchrun" in errors
    assert [one.name for one in (tmp_path / "run/checkpoints").iterdir()] == [f"step-{steps:06d}"]


def _child(parent: int, rank: int) -> int:
    """The process id of a rank below a launcher."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    ranks = {pid: Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in children}
    return next(int(pid) for pid, variables in ranks.items() if f"RANK={rank}".encode() in variables)


@pytest.mark.parametrize("reward", ["fails_on_the_second", pytest.param("dies_on_the_second", marks=pytest.mark.long)])
def test_one_process_takes_the_other_down_within_seconds(reward, recipe, tmp_path) -> None:
    path = str(recipe(rewards={f"testing_stops:{reward}": 1.0}))
    process = launch(*TORCHRUN, "-m", "vlm_r1.cli.main", "train", path)
    wait_for_steps(tmp_path / "run", 1, process)
    start = time.monotonic()
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert time.monotonic() - start < 30, "the other one was busy for a minute"
    assert process.returncode == 1
    own, _, launcher = errors.partition("torch.distributed.elastic")
    if reward == "fails_on_the_second":
        assert "process 1: RewardError: " in errors
        assert "no such planet" in launcher, "the launcher repeats the message at its end"
    else:
        assert "process 1 of this run (pid" in errors
        assert "Signal 9 (SIGKILL)" in launcher
    assert "vlm_r1/cli/main.py" not in own, "no traceback of ours"


def test_one_process_where_several_were_asked_for_is_an_error(recipe, tmp_path) -> None:
    launcher = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2")
    process = launch(*launcher, "-m", "vlm_r1.cli.main", "train", str(recipe()))
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode != 0
    assert "started only this one" in errors
    assert not (tmp_path / "run").exists()
    process = launch(*launcher[:-1], "1", "-m", "vlm_r1.cli.main", "train", str(recipe(**{"training.max_steps": 1})))
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
