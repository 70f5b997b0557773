"""The state of a checkpoint: schedules follow from the step, hyperparameters from the recipe, damage is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from accelerate.scheduler import AcceleratedScheduler
from transformers import get_scheduler

from vlm_r1.errors import CheckpointError
from vlm_r1.runtime.checkpoint import checkpoint_path
from vlm_r1.runtime.manifest import write_manifest
from vlm_r1.training.state import (
    checkpoint_bytes,
    load_optimizers,
    read_state,
    set_schedules,
    why_not_usable,
    write_state,
)

GOOD = {"step": 3, "skipped_in_a_row": 0, "stream": {"drawn": [12], "records": [48]}, "inputs": {"model.path": "5f"}}


def optimizer_of(lr: float = 0.1, weight_decay: float = 0.0) -> torch.optim.AdamW:
    weights = torch.nn.Parameter(torch.arange(4.0))
    return torch.optim.AdamW([{"params": [weights], "lr": lr, "weight_decay": weight_decay}], betas=(0.5, 0.6))


def scheduled(optimizer: torch.optim.Optimizer, kind: str, steps: int) -> AcceleratedScheduler:
    schedule = get_scheduler(kind, optimizer, num_warmup_steps=2, num_training_steps=steps)
    return AcceleratedScheduler(schedule, optimizer, step_with_optimizer=False)


def take(optimizer: torch.optim.Optimizer, schedule: AcceleratedScheduler, steps: int) -> list[float]:
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.param_groups[0]["params"][0].grad = torch.ones(4)
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant", "constant_with_warmup"])
def test_a_schedule_that_is_set_equals_one_that_was_stepped(kind) -> None:
    stepped, fresh = optimizer_of(), optimizer_of()
    one, two = scheduled(stepped, kind, 10), scheduled(fresh, kind, 10)
    take(stepped, one, 4)
    set_schedules([two], 4)
    assert two.get_last_lr() == one.get_last_lr()
    assert take(fresh, two, 6) == take(stepped, one, 6)


def test_a_longer_run_goes_on_at_the_rate_of_its_own_schedule() -> None:
    optimizer = optimizer_of()
    schedule = scheduled(optimizer, "linear", 22)  # 2 of warm-up, then 0.1 · (22 - step) / 20
    set_schedules([schedule], 12)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 10 / 20)


def test_moments_come_from_the_checkpoint_and_hyperparameters_from_the_recipe(tmp_path: Path) -> None:
    saved = optimizer_of()
    take(saved, scheduled(saved, "constant", 5), 3)
    saved.param_groups[0]["own"] = 7.5
    write_state(tmp_path / "state", [saved], GOOD)
    loaded = optimizer_of(lr=0.3, weight_decay=0.01)
    schedule = scheduled(loaded, "constant", 5)
    load_optimizers(tmp_path / "state", [loaded])
    set_schedules([schedule], 3)
    group, state = loaded.param_groups[0], loaded.state_dict()["state"][0]
    assert (group["lr"], group["weight_decay"], group["own"]) == (0.3, 0.01, 7.5)
    assert torch.equal(state["exp_avg"], saved.state_dict()["state"][0]["exp_avg"])
    assert int(state["step"]) == 3


@pytest.mark.parametrize("kind", ["torn", "missing", "another optimizer", "no dictionary"])
def test_optimizers_that_cannot_be_loaded(kind, tmp_path) -> None:
    saved = optimizer_of()
    write_state(tmp_path / "state", [saved], GOOD)
    file = tmp_path / "state/optimizer.bin"
    if kind == "torn":
        file.write_bytes(file.read_bytes()[:100])
    elif kind == "missing":
        file.unlink()
    elif kind == "no dictionary":
        torch.save([1, 2], file)
    else:
        saved.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))]})
    with pytest.raises(CheckpointError, match=r"optimizer\.bin: cannot be resumed from with this recipe"):
        load_optimizers(tmp_path / "state", [saved])


def changed(**values: object) -> str:
    return json.dumps({**GOOD, **values})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (json.dumps(GOOD), None),
        ("[]", "wanted a JSON object"),
        ("", "cannot be read as JSON"),
        ("\0" * 20, "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        (changed(bad_records=5), "is not the state of a trainer"),
        (changed(bad_records=[{"step": 1}]), "is not the state of a trainer"),
        (changed(step=2), "is of step 2, but its folder is of step 3"),
        (changed(step="3"), "is of step '3'"),
        (changed(step=None), "is of step None"),
        (changed(step=3.5), "is of step 3.5"),
        (changed(skipped_in_a_row="0"), "is not the state of a trainer"),
        (changed(skipped_in_a_row=-1), "is not the state of a trainer"),
        (changed(stream=None), "is not the state of a trainer"),
        (changed(stream=[1]), "is not the state of a trainer"),
        (changed(stream={"drawn": ["a"], "records": [48]}), "is not the state of a trainer"),
        (changed(stream={"drawn": [1]}), "is not the state of a trainer"),
        (changed(inputs=[1]), "is not the state of a trainer"),
    ],
)
def test_the_trainers_state(text, reason, tmp_path) -> None:
    """In the manifest all files are whole: somebody has copied a state from elsewhere."""
    checkpoint = checkpoint_path(tmp_path, 3)
    (checkpoint / "state").mkdir(parents=True)
    (checkpoint / "state/trainer.json").write_text(text)
    write_manifest(checkpoint, {})
    found = why_not_usable(checkpoint)
    if reason is None:
        assert found is None
        assert read_state(checkpoint / "state", 3) == GOOD
    else:
        assert found is not None
        assert found.startswith("state/trainer.json: ")
        assert reason in found


def test_a_manifest_may_be_missing_only_from_an_older_version(tmp_path) -> None:
    checkpoint = checkpoint_path(tmp_path, 3)
    write = checkpoint / "state/trainer.json"
    write.parent.mkdir(parents=True)
    write.write_text(json.dumps(GOOD))
    assert why_not_usable(checkpoint) == "manifest.json is missing"
    write.write_text(json.dumps({key: value for key, value in GOOD.items() if key != "inputs"}))
    assert why_not_usable(checkpoint) is None


def test_the_bytes_of_a_checkpoint() -> None:
    model = torch.nn.Linear(4, 2)  # 10 numbers
    model.bias.requires_grad = False
    optimizer = torch.optim.AdamW([model.weight])
    model(torch.ones(4)).sum().backward()
    optimizer.step()
    assert checkpoint_bytes(model, [optimizer], adapters_only=False) == 4 * (10 + 2 * 8 + 1)  # two moments and a count
    assert checkpoint_bytes(model, [optimizer], adapters_only=True) == 4 * (8 + 2 * 8 + 1)
