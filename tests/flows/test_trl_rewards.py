"""Runs with rewards of TRL's signature: what they leave out, are told and log, and what stops a run."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import pytest

from vlm_r1.cli.main import main
from vlm_r1.config import load_config
from vlm_r1.errors import ConfigError
from vlm_r1.grpo.trainer import _logged_by_rewards, train
from vlm_r1.report.build import build_report
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.rollout_log import read_rollouts, rollouts_path

PART = "testing_rewards:letters_of_even"
ALONE = {"rewards": {PART: 1.0}}


def read(folder: Path):
    """Metrics of each step, and its completions."""
    metrics = read_metrics(folder / "metrics.jsonl")
    return metrics, [read_rollouts(rollouts_path(folder, int(row["step"]))) for row in metrics]


def is_odd(row) -> bool:
    return bool(int(row.record_id) % 2)


def test_a_part_is_left_out_for_the_records_it_does_not_judge(recipe) -> None:
    path = recipe(rewards={"testing_rewards:letters": 2.0, PART: 1.0})
    train(load_config(path))
    metrics, steps = read(path.parent / "run")
    for row, rollouts in zip(metrics, steps, strict=True):
        odd = [r for r in rollouts if is_odd(r)]
        assert 0 < len(odd) < len(rollouts) == 16, "the case must have both kinds"
        assert all(math.isnan(r.parts[PART]) and r.reward == 2 * r.parts["testing_rewards:letters"] for r in odd)
        even = [r for r in rollouts if not is_odd(r)]
        assert all(r.parts[PART] == r.parts["testing_rewards:letters"] for r in even)
        assert [r.reward for r in even] == pytest.approx([3 * r.parts[PART] for r in even])
        assert row[f"rewards/{PART}/left_out"] == len(odd)
        assert row[f"rewards/{PART}/mean"] == pytest.approx(sum(r.parts[PART] for r in even) / len(even))
        assert "reward/left_out" not in row
        assert [r.extra["n_ids"] for r in rollouts] == [r.tokens for r in rollouts]


def test_completions_that_no_part_judges_have_no_reward_and_teach_nothing(recipe, capsys) -> None:
    path = recipe(**ALONE, **{"grpo.scale_rewards": "batch"})
    train(load_config(path))
    metrics, steps = read(path.parent / "run")
    for row, rollouts in zip(metrics, steps, strict=True):
        odd, even = ([r for r in rollouts if is_odd(r) == wanted] for wanted in (True, False))
        assert all(math.isnan(r.reward) and r.advantage == 0 for r in odd)
        assert row["reward/left_out"] == len(odd) > 0
        mean = sum(r.reward for r in even) / len(even)
        assert row["reward/mean"] == pytest.approx(mean)
        std = math.sqrt(sum((r.reward - mean) ** 2 for r in even) / (len(even) - 1))
        for r in even:
            group = [other.reward for other in even if other.group == r.group]
            assert r.advantage == pytest.approx((r.reward - sum(group) / len(group)) / (std + 1e-4), abs=1e-9)
    told = " ".join(capsys.readouterr().out.split())
    assert told.count("completions have no reward, because every component left them out") == 1  # once a run
    page = build_report(path.parent / "run").read_text(encoding="utf-8")
    assert ">nan<" not in page.lower()
    assert "Left out by rewards" in page
    assert main(["score", str(path.parent / "run"), "--out", str(path.parent / "again.jsonl"), "--reward", "iou"]) == 0
    lines = [json.loads(line) for line in (path.parent / "again.jsonl").read_text().splitlines()]
    assert sum(line["reward"] is None for line in lines) == sum(row["reward/left_out"] for row in metrics)


def test_a_reward_is_told_the_step_and_its_metrics_are_logged_on_resume_too(recipe) -> None:
    path = recipe(**{"training.save_steps": 1, "training.save_total_limit": 3}, rewards={"accuracy": 1.0, PART: 1.0})
    train(load_config(path))
    folder = path.parent / "run"
    whole, _ = read(folder)
    assert [(row["seen/step"], row["seen/max_steps"]) for row in whole] == [(0, 3), (1, 3), (2, 3)]
    for step in (2, 3):
        shutil.rmtree(folder / f"checkpoints/step-{step:06d}")
    train(load_config(path), resume=True)
    resumed, _ = read(folder)
    assert [row["seen/step"] for row in resumed] == [0, 1, 2]


def test_an_evaluation_is_told_the_step_after_which_it_is_made(recipe, rec_files) -> None:
    held_out = {"val": {"path": str(rec_files["in_domain"]), "reward": "testing_rewards:progress"}}
    path = recipe(**{"data.eval": held_out, "training.eval_steps": 1})
    train(load_config(path))
    for moment, share in {"before": 0.0, "step-000001": 1 / 3, "step-000002": 2 / 3, "after": 1.0}.items():
        samples = (path.parent / f"run/eval/{moment}-val.samples.jsonl").read_text(encoding="utf-8").splitlines()
        assert {json.loads(line)["parts"]["accuracy"] for line in samples} == {share}


@pytest.mark.parametrize(
    ("model", "share"),
    [
        pytest.param("run/model", 1.0, id="the_model_of_a_run"),
        pytest.param("run/checkpoints/step-000001", 1 / 2, id="a_checkpoint"),
        pytest.param("elsewhere", 1.0, id="a_folder_of_no_run"),
    ],
)
def test_eval_is_told_how_far_the_model_was_trained(model, share, recipe, rec_files) -> None:
    path = recipe(**{"training.save_steps": 1, "training.max_steps": 2})
    train(load_config(path))
    shutil.copytree(path.parent / "run/model", path.parent / "elsewhere")
    out = path.parent / "eval"
    options = ["--limit", "2", "--reward", "testing_rewards:progress", "--template", "bare", "--out", str(out)]
    options += ["--max-completion-length", "4"]
    assert main(["eval", str(path.parent / model), str(rec_files["in_domain"]), *options]) == 0
    samples = (out / "in_domain.samples.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["parts"]["accuracy"] for line in samples] == [share] * 2


def test_score_knows_the_steps_of_the_run_that_its_rollouts_lie_in(recipe) -> None:
    path = recipe(**{"training.max_steps": 2})
    train(load_config(path))
    out = path.parent / "scores.jsonl"
    assert main(["score", str(path.parent / "run"), "--out", str(out), "--reward", "testing_rewards:progress"]) == 0
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [line["score"] for line in lines] == [0.0] * 16 + [1 / 2] * 16
    alone = shutil.copy(path.parent / "run/rollouts/step-000001.parquet", path.parent.parent / "alone.parquet")
    assert main(["score", str(alone), "--out", str(out), "--reward", "testing_rewards:progress"]) == 2


def test_metrics_of_all_processes_are_averaged_over_their_calls() -> None:
    # one process logs 1 and 2, the other 6 and a name of its own: (1 + 2 + 6) / 3
    def two(own: list) -> list:
        other: list = []
        _logged_by_rewards({"a": [6.0], "b": [0.5]}, {}, lambda items: other.extend(items) or items)
        return own + other

    assert _logged_by_rewards({"a": [1.0, 2.0]}, {"loss": 1.0}, two) == {"a": 3.0, "b": 0.5}


@pytest.mark.parametrize("name", ["loss", "step", "stage", "eval/val/iou"])
def test_a_metric_under_one_of_our_names_is_refused(name) -> None:
    with pytest.raises(ConfigError, match=f'a reward logs the metric "{name}", which is one of ours'):
        _logged_by_rewards({name: [1.0]}, {"loss": 0.5}, lambda items: items)


def test_a_metric_under_one_of_our_names_stops_a_run(recipe) -> None:
    with pytest.raises(ConfigError, match='"reward/mean", which is one of ours'):
        train(load_config(recipe(rewards={"testing_rewards:logs_our_name": 1.0})))


# ---- found before a model is loaded ---------------------------------------------------------------------------------

OTHERS = """
def verl(predict_str: str, ground_truth: str, format_score: float = 0.1) -> float:
    return 1.0


def needs(completions, reference, **columns):
    return [1.0] * len(completions)


def of_odd(completions, id, **columns):
    return [1.0 if int(own) % 2 else None for own in id]


def silent(completions, **columns):
    return [None] * len(completions)


def short(completions, **columns):
    return [1.0]
"""


@pytest.fixture
def others(tmp_path, monkeypatch) -> None:
    (tmp_path / "rewards_of_others.py").write_text(OTHERS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")


BREAKS = (
    r'RewardError: \S+:\d+ and \d other completions: reward "testing_rewards:breaks" raised TypeError: list indices '
    r"must be integers or slices, not str \(\S*testing_rewards\.py:\d+\)\n"
)


@pytest.mark.parametrize("place", ["part", "source", "record", "held_out"])
@pytest.mark.parametrize("dry", [True, False], ids=["dry_run", "start"])
def test_a_reward_that_can_never_be_called_is_found_by_one_call(place, dry, recipe, rec_files, tmp_path, capsys):
    """Whoever names it: a part of the recipe, a source, a line, or a held-out source."""
    lines = [json.loads(line) for line in rec_files["train"].read_text(encoding="utf-8").splitlines()[:6]]
    for line in lines:
        line["image"] = str(rec_files["train"].parent / line["image"])
    if place == "record":
        lines[-1]["accu_reward_method"] = "testing_rewards:breaks"  # allowed below, or it is not imported
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    source = {"path": str(data), "image_root": str(rec_files["train"].parent)} | (
        {"reward": "testing_rewards:breaks"} if place == "source" else {}
    )
    options: dict = {"data.train": [source]}
    if place == "record":
        options["data.allowed_rewards"] = ["testing_rewards:breaks"]
    if place == "part":
        options["rewards"] = {"accuracy": 1.0, "testing_rewards:breaks": 0.5}
    if place == "held_out":
        options["data.eval"] = {"val": {"path": str(rec_files["in_domain"]), "reward": "testing_rewards:breaks"}}
    path = recipe(**options, **{"model.path": str(_without_weights(tmp_path, load_config(recipe()).model.path))})
    assert main(["train", str(path), *(["--dry-run"] if dry else [])]) == 2
    said = capsys.readouterr().err
    expected = BREAKS.replace(r" and \d other completions", "") if place == "record" else BREAKS
    assert re.fullmatch(expected, said), said
    assert not (tmp_path / "run").exists()


def _without_weights(folder: Path, checkpoint: str) -> Path:
    """The checkpoint as far as it is read before its weights are: loading these would fail, and say so."""
    copy = shutil.copytree(checkpoint, folder / "weightless", ignore=shutil.ignore_patterns("*.safetensors"))
    return Path(copy)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("verl", r"can never be called: wanted \(given\), or TRL's .* docs/reward_adapters\.md", id="verl"),
        pytest.param("needs", 'takes "reference", and no line of its data has that key; got .*image', id="column"),
        pytest.param("short", r"returned \[1\.0\] for 2 completions; wanted one for each", id="too_few"),
    ],
)
def test_a_signature_that_cannot_be_met_is_found_in_a_dry_run(name, message, recipe, others, capsys):
    path = recipe(rewards={"accuracy": 1.0, f"rewards_of_others:{name}": 1.0})
    assert main(["train", str(path), "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert f'reward "rewards_of_others:{name}"' in said
    assert re.search(message, said), said
    assert said.count("\n") == 1


def test_a_dry_run_says_that_it_called_the_rewards_and_which_are_silent(recipe, others, capsys):
    path = recipe(rewards={"accuracy": 1.0, "rewards_of_others:silent": 1.0, "rewards_of_others:of_odd": 1.0})
    assert main(["train", str(path), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "rewards called on 2 gold answers" in said
    assert 'warning: the component "rewards_of_others:silent" left out (None) all of these gold answers' in said
    assert 'part "rewards_of_others:of_odd"' not in said
