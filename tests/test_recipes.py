"""Every recipe loads, and every name in it stands for something."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from vlm_r1.cli.main import main
from vlm_r1.config import load_config
from vlm_r1.errors import ConfigError
from vlm_r1.registry import resolve
from vlm_r1.rewards import REWARDS
from vlm_r1.tasks import get_task
from vlm_r1.tasks.judge import ACCURACY
from vlm_r1.tasks.templates import get_template

RECIPES = sorted((Path(__file__).resolve().parents[1] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_loads_and_its_names_resolve(path):
    config = load_config(path)
    get_template(config.data.template)
    for source in [*config.data.train, *config.data.eval.values()]:
        resolve("reward", source.reward or get_task(source.task).reward, REWARDS)
    for name in config.rewards:
        if name != ACCURACY:
            resolve("reward", name, REWARDS)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_says_what_it_is_and_how_to_run_it(path):
    header = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    for entry in ("Origin", "Data", "Hardware"):
        assert re.search(rf"^# {entry}  ", header, flags=re.MULTILINE), entry
    assert re.search(rf"^# Command .* train recipes/{path.name}$", header, flags=re.MULTILINE)
    assert load_config(path).output_dir == f"runs/{path.stem}"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_trains_on_something(path):
    assert load_config(path).data.train


ANSWERS = {
    "rec": ("the man on the left", [4, 5, 40, 50]),
    "ovd": ("cat, dog", '```json\n[{"bbox_2d": [4, 5, 40, 50], "label": "cat"}]\n```'),
    "gui_defect": ("what is wrong?", "No Defect"),
    "math": ("what is a half?", "\\frac{1}{2}"),
}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_does_everything_but_train_on_a_tiny_model(path, tiny_checkpoint, picture, tmp_path, capsys):
    config = load_config(path)
    (task,) = {source.task for source in config.data.train}
    problem, answer = ANSWERS[task]
    images = [picture(64, 60, seed) for seed in range(2 if "multiimage" in path.stem else 1)]
    turns = [{"from": "human", "value": "<image>" * len(images) + problem}, {"from": "gpt", "value": answer}]
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"id": 1, "image": images, "conversations": turns}))
    arguments = [f"--model.path={tiny_checkpoint}", f"--output_dir={tmp_path / 'run'}", f"--data.train.0.path={data}"]
    arguments.append(f"--data.allowed_local_media_path=[{Path(images[0]).parent}]")
    arguments += [f"--data.eval.{name}.path={data}" for name in config.data.eval]
    assert main(["train", str(path), "--dry-run", *arguments]) == 0
    shown = capsys.readouterr().out
    assert shown.count("<|image_pad|>") == len(images)
    assert "all checks passed, nothing was written" in shown
    assert not (tmp_path / "run").exists()


def test_the_runs_of_the_original_are_there():
    names = {path.stem.split("_qwen")[0] for path in RECIPES}
    assert {"rec", "rec_lora", "ovd", "gui_multiimage", "math"} <= names


def test_a_recipe_with_a_typing_error_would_not_load():
    with pytest.raises(ConfigError, match="num_generation"):
        load_config(RECIPES[0], ["--grpo.num_generation=8"])
