"""The base model of LoRA adapters is that of the recipe, also where a resumed run has a new path for it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from testing_runs import untimed
from vlm_r1.cli.main import main
from vlm_r1.config import load_config
from vlm_r1.errors import CheckpointError
from vlm_r1.grpo.trainer import train
from vlm_r1.runtime.metrics_log import read_metrics

ALLOWED = ["model.path"]
STEPS = {"training.max_steps": 2, "training.save_steps": 1, "training.trust_checks": False}


@pytest.fixture
def config_of(recipe, tmp_path):
    """`config_of(base, run)`: a LoRA recipe on a base in tmp_path, with a run folder in it."""

    def make(base: str, run: str = "run"):
        paths = {"model.path": str(tmp_path / base), "output_dir": str(tmp_path / run)}
        return load_config(recipe(**STEPS, **paths, **{"model.lora": {"r": 4, "lora_alpha": 8}}))

    return make


@pytest.fixture
def killed(config_of, tiny_checkpoint, tmp_path) -> Path:
    """A run on the base `old` that was killed after step 1; `whole` is a copy from before; `new` is `old`, copied."""
    for name in ("old", "new"):
        shutil.copytree(tiny_checkpoint, tmp_path / name)
    train(config_of("old"))
    run = tmp_path / "run"
    shutil.copytree(run, tmp_path / "whole")
    shutil.rmtree(run / "checkpoints/step-000002")
    shutil.rmtree(run / "model")
    return run


def change_weights(base: Path) -> None:
    weights = {name: tensor * 1.5 for name, tensor in load_file(base / "model.safetensors").items()}
    save_file(weights, base / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("what", ["is gone", "has other weights now"])
def test_a_base_that_moved(what, killed, config_of, rec_files, tmp_path) -> None:
    """Nothing is read at the old place any more, by the run or by who uses its model."""
    shutil.rmtree(tmp_path / "old") if what == "is gone" else change_weights(tmp_path / "old")
    with pytest.raises(CheckpointError, match=r"model\.path: run .*old', now .*new'\n.*--allow model\.path"):
        train(config_of("new"), resume=True)
    train(config_of("new"), resume=True, allow=ALLOWED)
    assert untimed(read_metrics(killed / "metrics.jsonl")) == untimed(read_metrics(tmp_path / "whole/metrics.jsonl"))
    one, two = (load_file(run / "model/adapter_model.safetensors") for run in (killed, tmp_path / "whole"))
    assert all(one[name].equal(two[name]) for name in two)
    written = json.loads((killed / "model/adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == str(tmp_path / "new")
    asked = ["eval", str(killed / "model"), str(rec_files["in_domain"]), "--limit=2", "--out", str(tmp_path / "eval")]
    assert main(asked) == 0
    assert main(["export", str(killed), "--to", str(tmp_path / "export")]) == 0
    (change,) = json.loads((killed / "environment.json").read_text())["changes"]
    assert change["option"] == "model.path"


def test_control_another_base_is_noticed(killed, config_of, tmp_path, capsys) -> None:
    change_weights(tmp_path / "new")
    train(config_of("new"), resume=True, allow=ALLOWED)
    said = " ".join(capsys.readouterr().out.split())
    assert "changed: model.path: its files are not those that the run has used so far" in said
    assert untimed(read_metrics(killed / "metrics.jsonl")) != untimed(read_metrics(tmp_path / "whole/metrics.jsonl"))


@pytest.mark.parametrize("lora", [{"r": 8, "lora_alpha": 8}, {"r": 4, "lora_alpha": 16}, None])
def test_the_form_of_adapters_that_were_saved_cannot_change(lora, killed, recipe, tmp_path) -> None:
    """They are loaded as they are, so the new options would have no effect."""
    paths = {"model.path": str(tmp_path / "old"), "output_dir": str(killed)}
    other = load_config(recipe(**STEPS, **paths, **{"model.lora": lora}))
    with pytest.raises(CheckpointError, match=r"step-000001: holds the weights .*\n  model\.lora"):
        train(other, resume=True, allow=["model"])
