"""An optimizer on the CPU is the same optimizer. (Without a GPU the copies go from CPU to CPU, by the same code.)"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vlm_r1.config.schema import TrainingSection
from vlm_r1.errors import ConfigError
from vlm_r1.training.offload import check_offload
from vlm_r1.training.optimizer import make_optimizers, make_schedulers
from vlm_r1.training.state import load_optimizers, set_schedules, write_state

SETTINGS: dict[str, Any] = {"learning_rate": 1e-2, "weight_decay": 0.1, "max_steps": 8}


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(7, 6), nn.Linear(6, 5), nn.Linear(5, 3))


class Training:
    """A model with the recipe's optimizers and schedules."""

    def __init__(self, **options: Any) -> None:
        section = TrainingSection(**SETTINGS, **options)
        self.model = small_model()
        self.optimizers = make_optimizers(self.model, section)
        self.schedulers = make_schedulers(self.optimizers, section)

    def take(self, numbers: range, left_out: int | None = None) -> None:
        """Take steps with seeded gradients; one parameter may have none."""
        for number in numbers:
            torch.manual_seed(number)
            for place, p in enumerate(self.model.parameters()):
                p.grad = torch.randn_like(p) if place != left_out else None
            for optimizer, schedule in zip(self.optimizers, self.schedulers, strict=True):
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()

    def weights(self) -> list[torch.Tensor]:
        return [p.detach().clone() for p in self.model.parameters()]


@pytest.mark.parametrize("optim", ["adamw", "adamw_torch", "muon", "adafactor", "sgd", "torch.optim:Adagrad"])
def test_the_numbers_are_the_same(optim: str) -> None:
    here, there = Training(optim=optim), Training(optim=optim, offload_optimizer=True)
    start = here.weights()
    for one in (here, there):
        one.take(range(3))
        one.take(range(3, 5), left_out=1)
    assert all(map(torch.equal, there.weights(), here.weights()))
    assert not any(map(torch.equal, here.weights(), start)), "control: something was learnt"
    assert all(p.grad is None for p in there.model.parameters()), "gradients left"
    own = {id(p) for p in there.model.parameters()}
    held = [p for optimizer in there.optimizers for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len(own)
    assert not own & {id(p) for p in held}, "the optimizer holds copies"


def test_a_resumed_one_goes_on_bit_for_bit(tmp_path) -> None:
    whole, first, second = (Training(offload_optimizer=True) for _ in range(3))
    whole.take(range(6))
    first.take(range(3))
    write_state(tmp_path / "state", first.optimizers, {})
    section = TrainingSection(**SETTINGS, offload_optimizer=True)
    second.model.load_state_dict(first.model.state_dict())  # as in a run: weights first, then optimizers
    second.optimizers = make_optimizers(second.model, section)
    second.schedulers = make_schedulers(second.optimizers, section)
    load_optimizers(tmp_path / "state", second.optimizers)
    set_schedules([type("Wrapped", (), {"scheduler": one}) for one in second.schedulers], 3)
    second.take(range(3, 6))
    assert all(map(torch.equal, second.weights(), whole.weights()))


def test_what_has_no_effect() -> None:
    with pytest.raises(ValueError, match=r"choose one, e\.g\. offload_optimizer with adamw"):
        TrainingSection(optim="adamw_8bit", offload_optimizer=True)
    check_offload(TrainingSection())
    if not torch.accelerator.is_available():
        with pytest.raises(ConfigError, match="computes on its CPU, where the optimizer is already"):
            check_offload(TrainingSection(offload_optimizer=True))
