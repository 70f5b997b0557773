"""Runs with a reward model: what they log and show, how they go on, and the other commands that judge."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from testing_reward_models import judged, write_judge, write_reward_model
from testing_runs import untimed
from vlm_r1.cli.eval import _reward_models
from vlm_r1.cli.main import main
from vlm_r1.config import load_config
from vlm_r1.data.images import load_image
from vlm_r1.errors import CheckpointError, ModelError
from vlm_r1.grpo.trainer import train
from vlm_r1.report.build import build_report
from vlm_r1.rewards.model_loading import load_scorer
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.rollout_log import read_rollouts, rollouts_path


@pytest.fixture(scope="module")
def judge(tmp_path_factory) -> str:
    return write_reward_model(tmp_path_factory.mktemp("rm") / "judge", max_position_embeddings=512)


def spec_of(path: str | Path) -> str:
    return f'reward_model(path="{path}", batch_size=3)'


def test_a_run_is_paid_by_the_models_scores(recipe, judge, capsys) -> None:
    name = spec_of(judge)
    path = recipe(rewards={"format": 1.0, name: 0.5})
    train(load_config(path))
    run, scorer = path.parent / "run", load_scorer(judge)
    metrics = read_metrics(run / "metrics.jsonl")
    for row in metrics:
        rollouts = read_rollouts(rollouts_path(run, int(row["step"])))
        expected = scorer.scores([judged(r.text, r.problem) for r in rollouts], batch_size=1)
        assert [r.parts[name] for r in rollouts] == pytest.approx(expected, rel=1e-6)  # files keep float32
        assert [r.reward for r in rollouts] == pytest.approx([r.parts["format"] + r.parts[name] / 2 for r in rollouts])
        assert row[f"rewards/{name}/mean"] == pytest.approx(sum(expected) / len(expected), rel=1e-6)
    assert len({r.parts[name] for r in rollouts}) > 4
    page = build_report(run).read_text(encoding="utf-8")
    assert "reward model(judge)" in page  # a curve
    assert "reward_model(judge)" in page  # a completion
    assert "batch_size=3" not in page.partition("config.yaml")[0]
    assert "rewards called on 2 gold answers" in " ".join(capsys.readouterr().out.split())


def test_a_run_learns_what_the_model_likes(recipe, tmp_path) -> None:
    """The model is a mean over its tokens (no scores of attention, no MLP), so that a few steps can please it."""
    judge = Path(write_reward_model(tmp_path / "judge", max_position_embeddings=512))
    weights = load_file(judge / "model.safetensors")
    for name in weights:
        if "q_proj" in name or "down_proj" in name:
            weights[name].zero_()
    save_file(weights, judge / "model.safetensors", {"format": "pt"})
    options = {"training.max_steps": 20, "training.learning_rate": 5e-3, "grpo.num_generations": 8}
    path = recipe(rewards={spec_of(judge): 1.0}, **options, **{"training.trust_checks": False})
    train(load_config(path))
    means = [float(row["reward/mean"]) for row in read_metrics(path.parent / "run/metrics.jsonl")]
    assert sum(means[-4:]) / 4 - sum(means[:4]) / 4 > 0.4


def test_a_run_goes_on_with_the_same_model_only(recipe, tmp_path) -> None:
    folder = tmp_path / "judge"
    write_reward_model(folder, max_position_embeddings=512)
    name = spec_of(folder)
    path = recipe(rewards={"accuracy": 1.0, name: 0.5}, **{"training.save_steps": 1, "training.save_total_limit": 3})
    train(load_config(path))
    run, whole = path.parent / "run", read_metrics(path.parent / "run/metrics.jsonl")
    shutil.rmtree(run / "checkpoints/step-000003")
    shutil.rmtree(run / "model")
    config = folder / "config.json"
    right = config.read_text()
    config.write_text(json.dumps(json.loads(right) | {"rms_norm_eps": 1e-3}))
    with pytest.raises(CheckpointError) as caught:
        train(load_config(path), resume=True)
    assert f"rewards.{name}: its files are not those that the run has used so far" in str(caught.value)
    assert f"add --allow 'rewards.{name}'" in str(caught.value)
    config.write_text(right)
    train(load_config(path), resume=True)
    assert untimed(read_metrics(run / "metrics.jsonl")) == untimed(whole)


def test_a_model_that_is_not_there_stops_a_run_before_it_begins(recipe, tmp_path) -> None:
    path = recipe(rewards={spec_of(tmp_path / "nobody"): 1.0})
    with pytest.raises(ModelError, match="nobody: cannot load the config of the reward model"):
        train(load_config(path))
    assert not (path.parent / "run/metrics.jsonl").exists()


def test_a_sources_accuracy_reward_is_a_model(recipe, judge, rec_files) -> None:
    name = spec_of(judge)
    source = {"path": str(rec_files["train"]), "reward": name}
    path = recipe(**{"data.train": [source], "training.max_steps": 1}, rewards={"accuracy": 1.0})
    train(load_config(path))
    rollouts = read_rollouts(rollouts_path(path.parent / "run", 1))
    expected = load_scorer(judge).scores([judged(r.text, r.problem) for r in rollouts], batch_size=1)
    assert [r.parts["accuracy"] for r in rollouts] == pytest.approx(expected, rel=1e-6)


def test_the_other_commands_judge_by_it(judge, rec_files, tiny_checkpoint, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    name, data = spec_of(judge), str(rec_files["in_domain"])
    assert main(["data", "check", data, "--reward", name]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "scores" not in said.partition("all well")[0]
    assert (
        main(
            [
                "eval",
                str(tiny_checkpoint),
                data,
                "--reward",
                name,
                "--out",
                "out",
                "--limit",
                "3",
                "--max-completion-length",
                "8",
            ]
        )
        == 0
    )
    samples = [json.loads(line) for line in Path("out/in_domain.samples.jsonl").read_text().splitlines()]
    expected = load_scorer(judge).scores([judged(s["text"], s["problem"]) for s in samples], 1)
    assert [s["parts"]["accuracy"] for s in samples] == pytest.approx(expected, rel=1e-6)


def test_a_model_that_takes_pictures_sees_those_of_the_record(recipe, tmp_path) -> None:
    judge = write_judge(tmp_path / "judge", "gemma3")
    name = spec_of(judge)
    path = recipe(rewards={name: 1.0}, **{"training.max_steps": 1})
    train(load_config(path))
    rollouts = read_rollouts(rollouts_path(path.parent / "run", 1))

    def score(pictures) -> list[float | None]:
        givens = [
            judged(r.text, r.problem, pictures=r.images, load_images=partial(pictures, r.images)) for r in rollouts
        ]
        return load_scorer(judge).scores(givens, 1)

    expected = score(lambda paths: [load_image(path) for path in paths])
    assert [r.parts[name] for r in rollouts] == pytest.approx(expected, rel=1e-5)
    others = score(lambda paths: [Image.new("RGB", (64, 64)) for path in paths])
    assert max(abs(one - other) for one, other in zip(expected, others, strict=True)) > 1e-3, "a control"


def test_an_interrupted_evaluation_goes_on_with_the_same_model_only(judge, tmp_path) -> None:
    """Its answers are kept under a hash of the files of the models that may judge them."""
    folder = Path(shutil.copytree(judge, tmp_path / "judge"))
    args = Namespace(reward=spec_of(folder), allow_reward=["my.rewards:Judge"])
    first = _reward_models(args)
    assert list(first["reward_models"]) == [spec_of(folder)]
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert _reward_models(args) != first
    assert _reward_models(Namespace(reward="iou", allow_reward=[])) == {}
