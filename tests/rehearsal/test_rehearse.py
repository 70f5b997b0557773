"""`train --rehearse`: everything of a run, with a tiny random model, in a folder of its own."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from testing_rehearsals import Done, call, write_recipe
from vlm_r1.config import load_config
from vlm_r1.errors import CheckpointError
from vlm_r1.rehearsal.equality import check_equal, moved_weights
from vlm_r1.rehearsal.recipe import folder_of
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.run_folder import RunFolder

STAGES = ("data", "model", "prompts", "rewards", "training", "evaluation", "checkpoint", "resume", "report", "export")


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory, rec_files) -> tuple[Done, Path]:
    """The output and the folder of one rehearsal."""
    folder = tmp_path_factory.mktemp("rehearsal")
    done = call("train", write_recipe(folder, rec_files), "--rehearse")
    assert done.status == 0, done.errors
    return done, folder / "run-rehearsal"


def test_all_stages_are_ticked_and_the_verdict_is_the_last_line(rehearsal) -> None:
    done, _ = rehearsal
    ticks = re.findall(r"^✓ (\w+) +\d+\.\d s", done.shown, flags=re.MULTILINE)
    assert tuple(ticks) == STAGES
    assert done.shown.splitlines()[-1] == "rehearsed: everything works but the weights"


def test_it_says_what_it_did_and_what_it_did_not(rehearsal) -> None:
    shown = " ".join(rehearsal[0].shown.split())
    assert "accuracy 1, format 1, testing_rewards:letters 0." in shown, "judged on gold answers"
    assert 'by the name "Qwen/Qwen2.5-VL-3B-Instruct": its config is not on this machine' in shown
    assert "training.num_train_epochs – (2.0)" in shown
    assert "model.max_pixels 1,003,520: the tiny model sees pictures in a few tokens" in shown
    assert "training.report_to wandb: a rehearsal asks no network" in shown
    assert "writes nonsense, so its numbers say nothing about yours" in shown
    assert "bit for bit" in shown


def test_the_run_folder_is_not_touched(rehearsal) -> None:
    _, folder = rehearsal
    assert sorted(path.name for path in folder.parent.iterdir()) == ["recipe.yaml", "run-rehearsal"]
    assert folder_of(load_config(folder.parent / "recipe.yaml")) == folder


def test_three_steps_with_the_recipe_s_own_settings_moved_the_weights(rehearsal) -> None:
    _, folder = rehearsal
    rows = read_metrics(folder / "run/metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert all("rewards/testing_rewards:letters/mean" in row and "kl" in row for row in rows)
    assert "eval/held/accuracy_iou50" in rows[1]
    config = load_config(folder / "run/config.yaml")
    assert config.model.lora is not None
    assert (config.model.lora.r, config.grpo.beta) == (4, 0.04)
    moved, tensors = moved_weights(folder / "model", folder / "run/model")
    assert moved == tensors > 0


def test_a_few_records_are_taken_evenly_each_on_its_own_line(rehearsal, rec_files) -> None:
    _, folder = rehearsal
    lines = rec_files["train"].read_bytes().splitlines()
    taken = (folder / "data/train.0/train.jsonl").read_bytes().splitlines()
    numbers = [n for n, line in enumerate(taken) if line]
    assert len(numbers) == 24
    assert all(taken[n] == lines[n] for n in numbers), "a message names the line of the user's own file"
    assert (numbers[0], numbers[-1]) < (4, 48)
    held = (folder / "data/eval.held/train.jsonl").read_bytes().splitlines()
    assert not set(numbers) & {n for n, line in enumerate(held) if line}, "held-out records stay held out"


def test_the_export_is_a_model(rehearsal) -> None:
    _, folder = rehearsal
    assert (folder / "export/model.safetensors").exists()
    asking = json.loads((folder / "export/vlm_r1.json").read_text())
    assert asking["task"] == "rec"


def test_equality_is_not_said_of_what_differs(rehearsal, tmp_path) -> None:
    """The control: a weight, a metric and an evaluation are changed by the least that can be."""
    _, folder = rehearsal
    straight = RunFolder(folder / "run")
    assert "bit for bit" in check_equal(straight, RunFolder(folder / "resumed"))
    other = RunFolder(tmp_path / "other")
    shutil.copytree(folder / "resumed", other.path)
    (file,) = other.model.glob("*.safetensors")
    weights = load_file(file)
    name, tensor = next(iter(weights.items()))
    flat = tensor.flatten()
    flat[0] = torch.nextafter(flat[0], torch.tensor(9.0))
    save_file({**weights, name: flat.view_as(tensor)}, file)
    metrics = other.metrics.read_text().replace('"step": 3', '"extra": 1, "step": 3')
    assert metrics != other.metrics.read_text()
    other.metrics.write_text(metrics)
    (other.evaluations / "after-held.json").unlink()
    with pytest.raises(CheckpointError) as caught:
        check_equal(straight, other)
    assert f"the weight {name}" in str(caught.value)
    assert "metric extra of step 3 is 1, not None" in str(caught.value)
    assert "the evaluation eval/after-held.json" in str(caught.value)


def test_it_can_be_repeated_but_deletes_nothing_of_others(rehearsal, tmp_path, rec_files) -> None:
    recipe = write_recipe(tmp_path, rec_files)
    (tmp_path / "run-rehearsal").mkdir()
    (tmp_path / "run-rehearsal/thesis.txt").write_text("mine")
    done = call("train", recipe, "--rehearse")
    assert done.status == 2
    assert "something else does lie here" in done.errors
    assert (tmp_path / "run-rehearsal/thesis.txt").read_text() == "mine"
    (tmp_path / "run-rehearsal/thesis.txt").rename(tmp_path / "run-rehearsal/rehearsal.json")
    (tmp_path / "run-rehearsal/left.txt").write_text("of the last rehearsal")
    assert call("train", recipe, "--rehearse", "--model.path=my/model").status == 2
    assert not (tmp_path / "run-rehearsal/left.txt").exists()
