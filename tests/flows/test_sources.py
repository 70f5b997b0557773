"""A run on a mixture: shares, tasks, templates and rewards by source, an outside reward for all, and its resume."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import pytest

from vlm_r1.config import load_config
from vlm_r1.grpo.trainer import train
from vlm_r1.runtime.rollout_log import read_rollouts, rollouts_path
from vlm_r1.scoring.files import read_rows
from vlm_r1.scoring.rows import score_rows
from vlm_r1.scoring.settings import Scoring
from vlm_r1.synthetic import make_world, write_dataset

STEPS = 3


@pytest.fixture(scope="module")
def counting_file(tmp_path_factory):
    counts = {"train": 10, "warmup": 1, "in_domain": 1, "out_of_domain": 1}
    path = write_dataset(tmp_path_factory.mktemp("counting"), make_world("counting"), counts=counts)["train"]
    lines = [json.loads(line) | {"difficulty": 0.5} for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def mixture(recipe, rec_files, counting_file):
    """A recipe that draws three boxes for each count, asked in the recipe's own words."""
    own = {"thinking": "free", "instruction": "count", "wraps": False}
    return recipe(
        **{
            "data.train": [
                {"path": str(rec_files["train"]), "weight": 3, "reward": "giou(near=0.2)"},
                {"path": str(counting_file), "weight": 1, "task": "counting", "template": "own"},
            ],
            "data.templates": {"own": own},
            "rewards": {"accuracy": 1.0, "format": 0.5, "testing_rewards:words_like_trl": 0.1},
            "reward_combination": "gate",
            "training.prompts_per_step": 4,
            "training.max_steps": STEPS,
            "training.save_steps": 1,
        }
    )


def _rows(folder):
    return [row for step in range(1, STEPS + 1) for row in read_rollouts(rollouts_path(folder, step))]


def test_each_source_has_its_share_task_template_and_reward(mixture, tmp_path) -> None:
    train(load_config(mixture))
    rows = _rows(tmp_path / "run")
    asked = Counter((row.task, row.template, row.reward_name) for row in rows)
    generations = load_config(mixture).grpo.num_generations
    assert asked == {
        ("rec", "bare", "giou(near=0.2)"): 9 * generations,
        ("counting", "own", None): 3 * generations,
    }
    for row in rows:
        words = len(row.text.split()) / 10 * (0.5 if row.task == "counting" else 1.0)
        parts = {"accuracy": row.parts["accuracy"], "format": row.parts["format"]}
        assert row.parts == {**parts, "testing_rewards:words_like_trl": pytest.approx(words)}
        kept = parts["accuracy"] + 0.1 * words if parts["format"] else 0.0
        assert row.reward == pytest.approx(0.5 * parts["format"] + kept)
        assert row.prompt.count("count") == ("count" in row.problem) + (row.task == "counting")


def test_what_was_logged_is_scored_again_to_the_same(mixture, tmp_path) -> None:
    config = load_config(mixture)
    train(config)
    rows = list(read_rows(rollouts_path(tmp_path / "run", 1)))
    rec = [(source, row) for source, row in rows if row["task"] == "rec"]
    assert [s.score for s in score_rows(rec, Scoring())] == [row["parts"]["accuracy"] for _, row in rec]


def test_resume_continues_every_file_where_it_was(mixture, tmp_path) -> None:
    config = load_config(mixture)
    train(config)
    run = tmp_path / "run"
    whole = [(row.source, row.text, row.reward) for row in _rows(run)]
    rollouts_path(run, 3).unlink()
    shutil.rmtree(run / "checkpoints/step-000003")  # two are kept: this resumes from the second
    train(config, resume=True)
    assert [(row.source, row.text, row.reward) for row in _rows(run)] == whole
