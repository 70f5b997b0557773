"""A run that is killed and resumed is the run that was never interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from testing_runs import untimed
from vlm_r1.config import load_config
from vlm_r1.errors import CheckpointError
from vlm_r1.grpo.trainer import train
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.rollout_log import read_rollouts, rollouts_path
from vlm_r1.supervised.trainer import train_sft

TESTS = Path(__file__).parents[1]


def start(recipe_path: Path, *arguments: str) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "vlm_r1.cli.main", "train", str(recipe_path), *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for_lines(file: Path, n: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not file.exists() or file.read_text().count("\n") < n:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"{file} has no {n} lines yet"
        time.sleep(0.005)


def test_kill_minus_9_and_resume_equals_an_uninterrupted_run(recipe, rec_files, tmp_path) -> None:
    options = {
        "training.max_steps": 12,
        "training.save_steps": 2,
        "training.optim": "muon",
        "training.lr_scheduler_type": "cosine",
        "training.prompts_per_step": 10,  # an epoch of 48 records ends within a step
        "data.eval": {"in_domain": {"path": str(rec_files["in_domain"])}},
        "training.eval_steps": 5,
        "training.num_generations_eval": 2,
    }
    train(load_config(recipe(**options, output_dir=str(tmp_path / "whole"))))
    path, killed = recipe(**options, output_dir=str(tmp_path / "killed")), tmp_path / "killed"
    process = start(path)
    wait_for_lines(killed / "metrics.jsonl", 5, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = len(read_metrics(killed / "metrics.jsonl"))
    assert 5 <= done < 12, "the run was killed in its middle"
    (killed / "checkpoints" / ".step-000099.tmp").mkdir()  # what a kill within a save leaves behind

    process = start(path, "--resume")
    output = process.communicate()[0]
    assert process.returncode == 0, output
    whole, resumed = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "killed"))
    assert untimed(resumed) == untimed(whole)
    for step in (1, done, 12):
        a, b = (read_rollouts(rollouts_path(tmp_path / name, step)) for name in ("whole", "killed"))
        assert a == b
    a, b = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "killed"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("trainer", "options"),
    [
        pytest.param(
            train,
            {
                "model.lora": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.2},
                "grpo.beta": 0.05,
                "grpo.perception_coef": 0.02,
            },
            id="lora with dropout, perception",
        ),
        pytest.param(
            train,
            {
                "model.lora": {"r": 4, "peft": {"use_dora": True, "use_rslora": True, "modules_to_save": ["merger"]}},
                "model.freeze": ["vision"],
                "training.learning_rates": {"projector": 1e-4},
                "grpo.beta": 0.05,
            },
            id="DoRA, a whole projector with its own rate",
        ),
        pytest.param(
            train,
            {
                "grpo.beta": 0.1,
                "grpo.num_iterations": 2,
                "grpo.steps_per_generation": 2,
                "training.report_to": [],
            },
            id="full with reference, in parts",
        ),
        pytest.param(train_sft, {"training.optim": "muon"}, id="sft"),
    ],
)
def test_resume_from_every_checkpoint(trainer, options, recipe, tmp_path) -> None:
    options = {**options, "training.max_steps": 4, "training.save_steps": 1, "training.save_total_limit": 4}
    config = load_config(recipe(**options))
    trainer(config)
    folder = tmp_path / "run"
    whole = untimed(read_metrics(folder / "metrics.jsonl"))
    weights_file = next((folder / "model").glob("*model.safetensors"))
    final = load_file(weights_file)
    checkpoints = sorted((folder / "checkpoints").glob("step-*"))
    for checkpoint in reversed(checkpoints[:-1]):  # each time as if the run had died after this one
        for later in sorted((folder / "checkpoints").glob("step-*")):
            if later > checkpoint:
                for file in sorted(later.rglob("*"), reverse=True):
                    file.rmdir() if file.is_dir() else file.unlink()
                later.rmdir()
        trainer(config, resume=True)
        assert untimed(read_metrics(folder / "metrics.jsonl")) == whole
        resumed = load_file(weights_file)
        assert all(torch.equal(final[name], resumed[name]) for name in final)


def test_resume_refuses_another_config_and_names_the_keys(recipe) -> None:
    train(load_config(recipe(**{"training.max_steps": 1})))
    changed = load_config(recipe(**{"training.max_steps": 2, "training.learning_rate": 5e-4}))
    with pytest.raises(
        CheckpointError, match=r"training\.learning_rate: run 0\.001, now 0\.0005\n.*training\.max_steps: run 1, now 2"
    ):
        train(changed, resume=True)


def test_a_torn_checkpoint_is_an_error_that_says_what_to_do(recipe, tmp_path) -> None:
    config = load_config(recipe(**{"training.max_steps": 1}))
    train(config)
    (tmp_path / "run/checkpoints/step-000001/state/optimizer.bin").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match=r"no checkpoint is whole:\n  step-000001 is damaged: state/opt"):
        train(config, resume=True)
