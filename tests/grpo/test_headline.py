"""The numbers behind the progress bar: the recipe's order, short names, and equations that are true."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vlm_r1.config import Config, load_config
from vlm_r1.grpo.headline import headline


def recipe(folder: Path, rewards: dict[str, float], tasks=("rec",), **options) -> Config:
    content = {
        "output_dir": str(folder / "run"),
        "model": {"path": "model"},
        "data": {"train": [{"path": "x.jsonl", "task": task} for task in tasks]},
        "rewards": rewards,
        **options,
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return load_config(folder / "recipe.yaml")


NUMBERS = {
    "loss": 0.1,
    "reward/mean": 0.57,
    "reward/std": 0.1,
    "rewards/format/mean": 0.5,
    "rewards/accuracy/mean": 0.32,
    "metrics/iou/mean": 0.4,
    "metrics/accuracy_iou50/mean": 0.25,
}


def test_components_stand_in_the_order_of_the_recipe(tmp_path: Path) -> None:
    """0.32 + 0.5 × 0.50 = 0.57"""
    found = headline(NUMBERS, recipe(tmp_path, {"accuracy": 1.0, "format": 0.5}))
    assert found == ["reward 0.57", "= accuracy 0.32 + 0.5 × format 0.50", "accuracy@0.5 0.25"]
    found = headline(NUMBERS, recipe(tmp_path, {"format": 0.5, "accuracy": 1.0}))
    assert found[1] == "= 0.5 × format 0.50 + accuracy 0.32"


@pytest.mark.parametrize(
    ("weights", "options"),
    [
        pytest.param(
            {"accuracy": 1.0, "format": 1.0}, {}, id="something was left out, so that the means do not add up"
        ),
        pytest.param({"accuracy": 1.0, "format": 1.0}, {"reward_combination": "product"}, id="a product"),
    ],
)
def test_no_equation_that_is_not_true(tmp_path: Path, weights, options) -> None:
    found = headline(NUMBERS, recipe(tmp_path, weights, **options))
    assert found == ["reward 0.57", "accuracy 0.32", "format 0.50", "accuracy@0.5 0.25"]


def test_rewards_of_ones_own_have_short_names(tmp_path: Path) -> None:
    numbers = {"reward/mean": 0.75, "rewards/my_package.rewards:short_trl/mean": 0.75}
    config = recipe(tmp_path, {"my_package.rewards:short_trl": 1.0})
    assert headline(numbers, config) == ["reward 0.75", "= short_trl 0.75"]


@pytest.mark.parametrize(
    ("tasks", "main"), [(["ovd", "rec"], "map 0.10"), (["rec", "ovd"], "accuracy@0.5 0.25"), (["counting"], "iou 0.40")]
)
def test_the_main_metric_is_that_of_the_first_task(tmp_path: Path, tasks, main) -> None:
    """A task whose metric is not there says nothing; then it is the first metric."""
    config = recipe(tmp_path, {"accuracy": 1.0}, tasks)
    assert headline(NUMBERS | {"metrics/map/mean": 0.1}, config)[-1] == main


def test_nothing_judged(tmp_path: Path) -> None:
    assert headline({"loss": 0.0}, recipe(tmp_path, {"accuracy": 1.0})) == []
