"""Optimizers by name: the table, and classes and functions of one's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vlm_r1.config import words
from vlm_r1.config.schema import TrainingSection
from vlm_r1.errors import ConfigError
from vlm_r1.training.optimizer import OPTIMIZERS, make_optimizers


def test_a_recipe_knows_the_names_of_the_table() -> None:
    assert tuple(OPTIMIZERS) == words.OPTIMIZERS


def test_a_class_of_ones_own_gets_rates_and_decay(model64, adapter) -> None:
    section = TrainingSection(
        optim="torch.optim:Adagrad", learning_rate=1e-3, learning_rates={"vision": 1e-5}, weight_decay=0.1
    )
    (own,) = make_optimizers(model64, section, adapter)
    assert type(own) is torch.optim.Adagrad
    settings = {(group["lr"], group["weight_decay"]) for group in own.param_groups}
    assert settings == {(1e-3, 0.1), (1e-3, 0.0), (1e-5, 0.1), (1e-5, 0.0)}
    assert sum(len(group["params"]) for group in own.param_groups) == len(list(model64.parameters()))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("adam", 'Did you mean "adamw"', id="a typing error"),
        pytest.param("nowhere:Lion", "cannot be imported", id="no module"),
        pytest.param("math:pi", "made 3.14.*; wanted a class of torch optimizers", id="no function"),
        pytest.param("builtins:len", "made .*; wanted a class of torch optimizers", id="a function of something else"),
    ],
)
def test_what_is_no_optimizer(name: str, message: str, model64) -> None:
    section: Any = TrainingSection().model_copy(update={"optim": name})
    with pytest.raises(ConfigError, match=message):
        make_optimizers(model64, section)


def test_betas_of_adamw_have_no_effect_on_ones_own() -> None:
    with pytest.raises(ValueError, match="adam_beta2 has no effect with an optim of your own"):
        TrainingSection(optim="torch.optim:SGD", adam_beta2=0.99)
    assert TrainingSection(optim="muon", adam_beta2=0.99).optim == "muon", "AdamW has what muon leaves"


def half(groups) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups[0]["params"][:1], lr=1e-3)


def test_one_that_leaves_parameters_out(model64, monkeypatch) -> None:
    """They would never train, and their gradients would stay."""
    monkeypatch.setattr("testing_rewards.half", half, raising=False)
    section: Any = TrainingSection().model_copy(update={"optim": "testing_rewards:half"})
    with pytest.raises(ConfigError, match="takes 1 of the 68 parameters that train; wanted all"):
        make_optimizers(model64, section)
