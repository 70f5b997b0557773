"""How long a run is: by steps, or by epochs, which become steps once the records are counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from testing_runs import untimed
from vlm_r1.cli.main import main
from vlm_r1.config import load_config
from vlm_r1.errors import CheckpointError, ConfigError
from vlm_r1.export.model import find_source
from vlm_r1.grpo.trainer import train
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.run_folder import planned_steps, read_json, trained_steps
from vlm_r1.supervised.trainer import train_sft
from vlm_r1.training.budget import with_steps

STEPS_FREE = {"training.max_steps": 500}


def by_epochs(recipe, epochs: float, **options: Any) -> Path:
    return recipe(**STEPS_FREE, **{"training.num_train_epochs": epochs}, **options)


@pytest.mark.parametrize(
    ("epochs", "records", "prompts", "steps"),
    [
        pytest.param(1, 48, 16, 3, id="one: 48 / 16"),
        pytest.param(3, 48, 10, 15, id="rounded up: 144 / 10 = 14.4"),
        pytest.param(0.5, 48, 10, 3, id="half an epoch: 24 / 10 = 2.4"),
        pytest.param(0.1, 30, 1, 3, id="exact: in binary 0.1 · 30 is more than 3"),
        pytest.param(1e-6, 48, 16, 1, id="at least one"),
        pytest.param(None, 48, 16, 500, id="max_steps decides"),
    ],
)
def test_steps_of_epochs(epochs, records, prompts, steps, recipe) -> None:
    config = load_config(by_epochs(recipe, epochs, **{"training.prompts_per_step": prompts}))
    assert with_steps(config, records).training.max_steps == steps


def test_both_are_an_error(recipe) -> None:
    with pytest.raises(ConfigError, match=r"max_steps 3 and num_train_epochs 2 both say how long .* remove one"):
        load_config(recipe(**{"training.num_train_epochs": 2}))


def test_weighted_files_have_no_epoch(recipe, rec_files) -> None:
    files = [{"path": str(rec_files[name]), "weight": 1.0} for name in ("train", "warmup")]
    with pytest.raises(ConfigError, match=r"num_train_epochs: files with a weight .* set training\.max_steps"):
        load_config(by_epochs(recipe, 1, **{"data.train": files}))


@pytest.mark.parametrize("trainer", [train, train_sft])
def test_a_run_by_epochs_is_the_run_of_its_steps_also_resumed_and_extended(trainer, recipe, tmp_path, capsys) -> None:
    """48 records: 2/3 of them are 2 steps of 16, all are 3. The linear schedule shows the number of steps."""
    options = {
        "training.prompts_per_step": 16,
        "training.save_steps": 1,
        "grpo.num_generations": 2,
        "sampling.max_completion_length": 4,
    }
    whole, extended = (str(tmp_path / name) for name in ("whole", "extended"))
    trainer(load_config(recipe(**options, **{"training.max_steps": 3}, output_dir=whole)))
    trainer(load_config(by_epochs(recipe, 1, **options, output_dir=extended)))
    assert untimed(read_metrics(tmp_path / "whole/metrics.jsonl")) == untimed(
        read_metrics(tmp_path / "extended/metrics.jsonl")
    )
    a, b = (load_file(tmp_path / name / "model/model.safetensors") for name in ("whole", "extended"))
    assert all(torch.equal(a[name], b[name]) for name in a)

    run = Path(extended)
    own = load_config(run / "config.yaml")
    assert (own.training.max_steps, own.training.num_train_epochs) == (500, 1), "the recipe stays as it was written"
    assert read_json(run / "environment.json")["steps"] == planned_steps(run, own) == 3
    assert trained_steps(run / "model") == (3, 3)
    assert find_source(run, step=3).moment == "after"
    trainer(own, resume=True)
    assert "all 3 steps are done" in capsys.readouterr().out

    longer = by_epochs(recipe, 1.1, **options, output_dir=extended)
    with pytest.raises(CheckpointError, match=r"num_train_epochs: run 1\.0, now 1\.1(.|\n)*learning rate"):
        trainer(load_config(longer), resume=True)
    trainer(load_config(longer), resume=True, allow=["training.num_train_epochs"])
    assert len(read_metrics(run / "metrics.jsonl")) == read_json(run / "environment.json")["steps"] == 4
    shorter = load_config(by_epochs(recipe, 0.5, **options, output_dir=extended))
    with pytest.raises(
        CheckpointError, match=r"is of step 4, but training\.num_train_epochs is now 0\.5, which is 2 steps"
    ):
        trainer(shorter, resume=True, allow=["training.num_train_epochs"])


def test_a_dry_run_says_the_steps(recipe, capsys) -> None:
    assert main(["train", str(by_epochs(recipe, 1.5)), "--dry-run"]) == 0
    assert "steps        18 of 4 prompts: 1.50 epochs" in capsys.readouterr().out  # 1.5 · 48 / 4


def test_a_folder_that_lost_its_environment_knows_no_steps(recipe, tmp_path) -> None:
    assert planned_steps(tmp_path, load_config(by_epochs(recipe, 2))) is None
    assert planned_steps(tmp_path, load_config(recipe())) == 3
