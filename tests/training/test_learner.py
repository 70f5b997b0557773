"""What the learner does at the edges: a gradient that is not finite, trackers, optimizers."""

from __future__ import annotations

import pytest
import torch

from vlm_r1.config import load_config
from vlm_r1.config.schema import TrainingSection
from vlm_r1.errors import ConfigError, ModelError
from vlm_r1.grpo.trainer import train
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.training.learner import seed_step
from vlm_r1.training.optimizer import make_optimizers


def test_a_gradient_that_is_not_finite_is_skipped_counted_and_at_last_stops_the_run(recipe, tmp_path) -> None:
    ruinous = {"training.learning_rate": 1e30, "training.max_steps": 9, "training.max_skipped_steps": 3}
    with pytest.raises(ModelError, match="not finite in 3 updates in a row"):
        train(load_config(recipe(**ruinous)))
    skipped = [row["steps/skipped"] for row in read_metrics(tmp_path / "run/metrics.jsonl")]
    assert skipped[0] == 0
    assert skipped[-2:] == [1, 1]
    assert len(list((tmp_path / "run/rollouts").iterdir())) == len(skipped) + 1, (
        "the rollouts of the last step are kept"
    )


def test_a_tracker_that_is_not_installed(recipe) -> None:
    with pytest.raises(ConfigError, match=r"wandb is not installed: pip install 'vlm-r1\[wandb\]'"):
        train(load_config(recipe(**{"training.report_to": ["wandb"]})))


def test_tensorboard_gets_the_metrics(recipe, tmp_path) -> None:
    pytest.importorskip("tensorboard")
    train(load_config(recipe(**{"training.report_to": ["tensorboard"], "training.max_steps": 1})))
    events = next((tmp_path / "run").rglob("events.out.tfevents*"))
    assert b"reward/mean" in events.read_bytes()


def test_muon_takes_hidden_matrices_and_adamw_the_rest(model64) -> None:
    adamw, muon = make_optimizers(model64, TrainingSection(optim="muon"))
    names = {id(p): name for name, p in model64.named_parameters()}
    hidden = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    rest = {names[id(p)] for group in adamw.param_groups for p in group["params"]}
    assert hidden | rest == set(names.values())
    assert not hidden & rest
    assert "model.language_model.layers.0.self_attn.q_proj.weight" in hidden
    assert "model.language_model.embed_tokens.weight" in rest
    assert all(dict(model64.named_parameters())[name].ndim == 2 for name in hidden)


def test_frozen_parameters_get_no_optimizer(model64) -> None:
    model64.model.visual.requires_grad_(False)
    (adamw,) = make_optimizers(model64, TrainingSection())
    count = sum(p.numel() for group in adamw.param_groups for p in group["params"])
    assert count == sum(p.numel() for name, p in model64.named_parameters() if "visual" not in name)


def test_seeds_differ_by_run_step_and_process() -> None:
    draws = set()
    for seed in ((1, 1, 0), (2, 1, 0), (1, 2, 0), (1, 1, 1), (1, 1, 0)):
        seed_step(*seed)
        draws.add(float(torch.rand(())))
    assert len(draws) == 4
