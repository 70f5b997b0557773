"""A reference that follows the policy: the mixture, its options, and that it belongs to the checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from trl.trainer.callbacks import SyncRefModelCallback

from testing_runs import untimed
from vlm_r1.config import load_config
from vlm_r1.errors import CheckpointError, ConfigError
from vlm_r1.grpo.reference import check_sync, mix_weights
from vlm_r1.grpo.trainer import train
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.training.state import load_weights

SYNC = {"grpo.beta": 0.1, "grpo.sync_ref_model": True, "grpo.ref_model_sync_steps": 2}


def pair(dtype: torch.dtype = torch.float32) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return nn.Linear(5, 7, dtype=dtype), nn.Linear(5, 7)


@pytest.mark.parametrize("alpha", [0.6, 0.1, 1.0])
def test_the_mixture_is_trl_s(alpha: float) -> None:
    ours, policy = pair()
    theirs, _ = pair()
    SyncRefModelCallback._sync_target_model(policy, theirs, alpha)
    before = ours.weight.clone()
    mix_weights(ours, policy, alpha)
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)
    assert not torch.equal(ours.weight, before)


def test_by_hand() -> None:
    """0.6 · 1 + 0.4 · 2 = 1.4; then 0.6 · 1 + 0.4 · 1.4 = 1.16. In bfloat16 1.4 is 179/128 = 1.3984375."""
    policy = nn.Linear(1, 1, bias=False)
    policy.weight.data.fill_(1.0)
    for dtype, first, second in ((torch.float64, 1.4, 1.16), (torch.bfloat16, 1.3984375, 1.15625)):
        reference = nn.Linear(1, 1, bias=False, dtype=dtype)
        reference.weight.data.fill_(2.0)
        mix_weights(reference, policy, 0.6)
        assert reference.weight.item() == pytest.approx(first, abs=1e-12)
        mix_weights(reference, policy, 0.6)
        assert reference.weight.item() == pytest.approx(second, abs=1e-12)


def test_what_does_not_train_stays() -> None:
    reference, policy = pair()
    policy.weight.requires_grad_(False)
    before = reference.weight.clone()
    mix_weights(reference, policy, 0.6)
    assert torch.equal(reference.weight, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"grpo.sync_ref_model": True}, "no effect with beta 0", id="no reference"),
        pytest.param(
            {"grpo.beta": 0.1, "grpo.ref_model_sync_steps": 2}, "no effect without sync_ref_model", id="steps"
        ),
        pytest.param({"grpo.ref_model_mixup_alpha": 0.5}, "no effect without sync_ref_model", id="alpha"),
        pytest.param({**SYNC, "grpo.ref_model_mixup_alpha": 0}, "greater than 0", id="nothing is mixed in"),
        pytest.param({**SYNC, "model.lora": {"r": 4}}, "without LoRA adapters, which never changes", id="lora"),
    ],
)
def test_options_without_effect(options: dict[str, Any], message: str, recipe) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(recipe(**options))


def test_a_reference_that_would_never_move(recipe) -> None:
    with pytest.raises(ConfigError, match="ref_model_sync_steps is 4, but the run has 3 steps"):
        check_sync(load_config(recipe(**{**SYNC, "grpo.ref_model_sync_steps": 4})))


@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_a_resumed_run_has_the_same_reference(mixed_precision: str, recipe, tmp_path: Path) -> None:
    """The reference moves after steps 2 and 4. The run goes on after step 3, whose checkpoint has the first mixture."""
    options: dict[str, Any] = {
        **SYNC,
        "training.max_steps": 5,
        "training.save_steps": 1,
        "training.save_total_limit": 9,
        "training.mixed_precision": mixed_precision,
        "grpo.num_generations": 2,
    }
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    train(load_config(recipe(**options, output_dir=str(whole))))
    checkpoints = sorted((whole / "checkpoints").iterdir())
    assert [(one / "state/reference.safetensors").exists() for one in checkpoints] == [False, True, True, True, True]
    kept, policy = (load_file(checkpoints[1] / name) for name in ("state/reference.safetensors", "model.safetensors"))
    name = next(name for name in kept if name.endswith("q_proj.weight") and "visual" not in name)
    (stored,) = [key for key in policy if key.endswith(name.removeprefix("model.language_model."))]
    gap = (kept[name].float() - policy[stored].float()).abs().max()
    assert 0 < float(gap) < 0.1, "near the policy, but no copy"

    shutil.copytree(whole, resumed)
    for later in ("step-000004", "step-000005"):
        shutil.rmtree(resumed / "checkpoints" / later)
    shutil.rmtree(resumed / "model")
    train(load_config(recipe(**options, output_dir=str(resumed))), resume=True)
    a, b = (read_metrics(folder / "metrics.jsonl") for folder in (whole, resumed))
    assert untimed(a) == untimed(b)
    one, two = (
        load_file(folder / "checkpoints/step-000005/state/reference.safetensors") for folder in (whole, resumed)
    )
    assert all(torch.equal(one[key], two[key]) for key in one)
    if mixed_precision == "no":
        frozen = tmp_path / "frozen"
        still = {key: value for key, value in options.items() if "ref_model" not in key}
        train(load_config(recipe(**still, output_dir=str(frozen))))
        kl = [row["kl"] for row in read_metrics(frozen / "metrics.jsonl")]
        assert kl[:2] == [row["kl"] for row in a[:2]]
        assert kl[2] > 3 * a[2]["kl"] > 0, "control: 0.4 of the way remains, which is 0.16 of the divergence"


def test_weights_of_another_model(tmp_path: Path) -> None:
    (tmp_path / "reference.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="cannot be resumed from with this recipe"):
        load_weights(tmp_path, "reference", nn.Linear(2, 2))
    assert not load_weights(tmp_path, "other", nn.Linear(2, 2))
