"""Whole runs of a tiny real model on real files: what they write, and what must not change the result."""

from __future__ import annotations

import json
import math

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoTokenizer

from vlm_r1.config import load_config
from vlm_r1.grpo.trainer import train
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.rollout_log import read_rollouts, rollouts_path
from vlm_r1.supervised.trainer import train_sft

EXPECTED_METRICS = {
    *(
        "reward/mean",
        "reward/std",
        "rewards/accuracy/mean",
        "rewards/format/std",
        "metrics/iou/mean",
        "groups/no_signal",
    ),
    *("loss", "entropy", "grad_norm", "learning_rate", "clip_ratio/low", "clip_ratio/high", "steps/skipped"),
    *("completions/mean_length", "completions/truncated", "parse_failures/no_answer_tag"),
    *(
        "time/sample_s",
        "time/score_s",
        "time/policy_s",
        "time/optimizer_s",
        "time/step_s",
        "tokens/sample",
        "tokens_per_s/policy",
    ),
}


def run(recipe_path, trainer=train):
    config = load_config(recipe_path)
    summary = trainer(config)
    folder = recipe_path.parent / "run"
    return folder, read_metrics(folder / "metrics.jsonl"), summary


def weights(folder) -> dict[str, torch.Tensor]:
    return dict(AutoModelForImageTextToText.from_pretrained(folder, dtype="auto").named_parameters())


def test_a_run_writes_what_docs_runs_says(recipe, rec_files, tiny_checkpoint) -> None:
    evaluation = {
        "in_domain": {"path": str(rec_files["in_domain"])},
        "out_of_domain": {"path": str(rec_files["out_of_domain"])},
    }
    path = recipe(
        **{"data.eval": evaluation, "training.save_steps": 1, "training.eval_steps": 2, "training.eval_batch_size": 8}
    )
    folder, metrics, summary = run(path)

    assert [row["step"] for row in metrics] == [1, 2, 3]
    assert load_config(folder / "config.yaml") == load_config(path)
    assert metrics[0].keys() >= EXPECTED_METRICS
    assert "eval/in_domain/accuracy_iou50" in metrics[1]
    assert "eval/in_domain/accuracy_iou50" not in metrics[0]
    rows = read_rollouts(rollouts_path(folder, 2))
    assert [(row.group, row.completion) for row in rows] == [(p, g) for p in range(4) for g in range(4)]
    assert sum(row.reward for row in rows) / 16 == pytest.approx(metrics[1]["reward/mean"])
    for group in range(4):
        assert sum(row.advantage for row in rows if row.group == group) == pytest.approx(0, abs=1e-9)
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["step-000002", "step-000003"]
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert summary["before"]["in_domain"].keys() == {"accuracy_iou50", "mean_iou", "ci95", "n"}
    assert summary["after"]["out_of_domain"]["n"] == 10
    samples = (folder / "eval" / "after-in_domain.samples.jsonl").read_text().splitlines()
    assert len(samples) == 12
    assert json.loads((folder / "environment.json").read_text())["packages"]["torch"]

    final = weights(folder / "model")  # plain transformers reads the final model
    start = weights(tiny_checkpoint)
    assert any(not torch.equal(final[name], start[name]) for name in final)
    assert AutoTokenizer.from_pretrained(folder / "model").chat_template


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"grpo.loss_type": "grpo"}, id="grpo"),
        pytest.param({"grpo.loss_type": "dr_grpo", "grpo.scale_rewards": "none"}, id="dr_grpo"),
        pytest.param(
            {"grpo.loss_type": "dapo", "grpo.beta": 0.1, "grpo.num_iterations": 2, "grpo.epsilon_high": 0.28},
            id="dapo, beta",
        ),
        pytest.param({"grpo.loss_type": "gspo", "grpo.num_iterations": 2, "grpo.scale_rewards": "batch"}, id="gspo"),
        pytest.param({"grpo.mask_truncated_completions": True, "sampling.temperature": 1.4}, id="masked"),
        pytest.param(
            {
                "grpo.loss_type": "bnpo",
                "grpo.num_iterations": 2,
                "grpo.delta": 1.5,
                "grpo.off_policy_mask_threshold": 1e-4,
                "grpo.multi_objective_aggregation": "normalize_then_sum",
                "grpo.entropy_coef": 0.01,
                "grpo.top_entropy_quantile": 0.5,
            },
            id="bnpo, by entropy",
        ),
    ],
)
def test_neither_layout_nor_micro_batches_change_the_result(options, recipe, tmp_path) -> None:
    finals = []
    for size, layout in ((1, "packed"), (100_000, "packed"), (100, "rows")):
        path = recipe(
            **options,
            **{
                "output_dir": str(tmp_path / f"run-{layout}-{size}"),
                "model.dtype": "float64",
                "training.max_tokens_per_micro_batch": size,
                "training.layout": layout,
            },
        )
        train(load_config(path))
        finals.append(weights(tmp_path / f"run-{layout}-{size}" / "model"))
    # Three AdamW steps of 1e-3: where a gradient is next to nothing, they magnify the float32 rounding of norms.
    for name, value in finals[0].items():
        torch.testing.assert_close(value, finals[1][name], atol=1e-5, rtol=0, msg=name)
        torch.testing.assert_close(value, finals[2][name], atol=1e-5, rtol=0, msg=name)


def test_kl_starts_at_zero_and_clipping_needs_a_second_iteration(recipe) -> None:
    options = {
        "grpo.beta": 0.1,
        "grpo.num_iterations": 2,
        "grpo.epsilon": 0.01,
        "training.learning_rate": 3e-3,
        "training.max_grad_norm": 100.0,
    }
    _, metrics, _ = run(recipe(**options))
    first, last = metrics[0], metrics[-1]
    assert first["kl"] > 0  # from the second iteration; the first has exactly 0
    assert first["clip_ratio/low"] + first["clip_ratio/high"] > 0
    assert math.isfinite(last["grad_norm"])


@pytest.mark.parametrize(
    ("loss_type", "options"),
    [
        pytest.param("bnpo", {"epsilon": 1e-3}, id="bnpo"),
        pytest.param("cispo", {"epsilon_high": 1.001}, id="cispo"),
        pytest.param("sapo", {"sapo_temperature_neg": 2.0, "scale_rewards": "rloo"}, id="sapo"),
        pytest.param("luspo", {"epsilon": 1e-4, "delta": 1.1}, id="luspo"),
        pytest.param("vespo", {"vespo_k_neg": 2.0, "scale_rewards": "reinforce_plus_plus"}, id="vespo"),
    ],
)
def test_every_loss_trains(loss_type, options, recipe) -> None:
    own = {"loss_type": loss_type, "num_iterations": 2, "off_policy_mask_threshold": 1e-5} | options
    path = recipe(**{f"grpo.{name}": value for name, value in own.items()}, **{"training.max_steps": 2})
    _, rows, _ = run(path)
    assert all(row["grad_norm"] > 0 for row in rows)
    assert any(row["off_policy_masked"] > 0 for row in rows)
    assert ("policy_weight" in rows[0]) == (loss_type in ("cispo", "vespo"))
    if loss_type in ("bnpo", "luspo", "cispo"):
        assert any(row["clip_ratio/high"] > 0 for row in rows)


def test_on_policy_ratio_is_one(recipe) -> None:
    _, metrics, _ = run(recipe(**{"training.max_steps": 1, "grpo.beta": 0.1}))
    assert metrics[0]["kl"] == pytest.approx(0, abs=1e-9)
    assert metrics[0]["clip_ratio/low"] == metrics[0]["clip_ratio/high"] == 0
    assert metrics[0]["loss"] == pytest.approx(0, abs=1e-6)  # advantages of a group add up to 0
    assert metrics[0]["grad_norm"] > 0


def test_bf16_autocast_runs_and_keeps_float32_weights(recipe, tmp_path) -> None:
    folder, metrics, _ = run(recipe(**{"training.mixed_precision": "bf16", "grpo.beta": 0.1, "training.max_steps": 2}))
    assert all(math.isfinite(row["grad_norm"]) and row["steps/skipped"] == 0 for row in metrics)
    assert metrics[0]["kl"] < 1e-3, "the reference computes in the same type as the policy"
    assert {p.dtype for p in weights(folder / "model").values()} == {torch.float32}


@pytest.mark.parametrize(
    ("options", "trains"),
    [
        pytest.param({"model.freeze_vision_modules": True}, {"language"}, id="vision frozen, as TRL says it"),
        pytest.param({"model.freeze": ["vision"]}, {"projector", "language"}, id="tower frozen"),
        pytest.param({"model.freeze": ["projector"]}, {"vision", "language"}, id="projector frozen"),
        pytest.param({"model.freeze": ["language"]}, {"vision", "projector"}, id="language frozen"),
    ],
)
def test_frozen_parts_stay_and_the_rest_moves(options, trains, recipe, tiny_checkpoint, adapter) -> None:
    folder, _, _ = run(recipe(**options))
    start, final = weights(tiny_checkpoint), weights(folder / "model")
    moved = {name for name in start if not torch.equal(start[name], final[name])}
    assert moved == {name for name in start if adapter.part_of(name) in trains}


@pytest.mark.parametrize("include_vision", [True, False])
def test_lora_trains_adapters_only(include_vision: bool, recipe, tiny_checkpoint) -> None:
    path = recipe(
        **{"model.lora": {"r": 4, "lora_alpha": 8}, "model.freeze": [] if include_vision else None, "grpo.beta": 0.1}
    )
    folder, metrics, _ = run(path)
    assert (folder / "model" / "adapter_config.json").exists()
    from peft import PeftModel

    base = AutoModelForImageTextToText.from_pretrained(tiny_checkpoint)
    start = {name: p.clone() for name, p in base.named_parameters()}
    tuned = PeftModel.from_pretrained(base, folder / "model")
    adapted = {n for n, p in tuned.named_parameters() if "lora_B" in n and p.abs().max() > 0}
    assert any("visual" in n for n in adapted) is include_vision
    assert any("language_model" in n for n in adapted)
    merged = dict(tuned.unload().named_parameters())
    assert all(torch.equal(start[name], merged[name]) for name in start)
    assert metrics[-1]["kl"] > 0


def test_sft_lowers_its_loss(recipe, rec_files) -> None:
    overrides = {
        "data.train": [{"path": str(rec_files["warmup"])}],
        "training.max_steps": 12,
        "training.optim": "muon",
        "training.learning_rate": 5e-3,
    }
    folder, metrics, _ = run(recipe(**overrides), train_sft)
    assert metrics[-1]["loss"] < 0.8 * metrics[0]["loss"]
    assert {row["stage"] for row in metrics} == {"sft"}
    assert (folder / "model" / "model.safetensors").exists()
