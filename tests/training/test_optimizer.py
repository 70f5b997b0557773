"""Optimizers by name: the table, and classes and functions of one's own."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch
from transformers import Adafactor
from transformers.training_args import OptimizerNames

from vlm_r1.config import words
from vlm_r1.config.schema import TrainingSection
from vlm_r1.errors import ConfigError
from vlm_r1.training.optimizer import OPTIMIZERS, make_optimizers
from vlm_r1.training.state import load_optimizers, write_state


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


def small_model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Embedding(7, 96), torch.nn.Linear(96, 64), torch.nn.Linear(64, 3))


def take(model: torch.nn.Module, optimizers: list[torch.optim.Optimizer], numbers: range) -> None:
    """Take optimizer steps with gradients that their numbers seed."""
    for number in numbers:
        torch.manual_seed(number)
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        for optimizer in optimizers:
            optimizer.step()


def steps(make: Any) -> list[torch.Tensor]:
    """The weights of a small model after four steps; `make` gets the model."""
    model = small_model()
    take(model, make(model), range(4))
    return [p.detach() for p in model.parameters()]


def by_recipe(**options: Any) -> Any:
    return lambda model: make_optimizers(model, TrainingSection(learning_rate=1e-2, **options))


OTHERS: dict[str, Any] = {
    "adamw": lambda own: torch.optim.AdamW(own, lr=1e-2, weight_decay=0, fused=True),
    "adamw_torch_fused": lambda own: torch.optim.AdamW(own, lr=1e-2, weight_decay=0, fused=True),
    "adamw_torch": lambda own: torch.optim.AdamW(own, lr=1e-2, weight_decay=0, fused=False),
    "adafactor": lambda own: Adafactor(own, lr=1e-2, scale_parameter=False, relative_step=False),
    "sgd": lambda own: torch.optim.SGD(own, lr=1e-2),
}


@pytest.mark.parametrize("name", OTHERS)
def test_each_equals_the_one_that_transformers_takes(name: str) -> None:
    """As `Trainer` makes them (transformers/trainer_optimizer.py)."""
    theirs = steps(lambda model: [OTHERS[name](model.parameters())])
    assert all(map(torch.equal, steps(by_recipe(optim=name)), theirs))
    control = steps(by_recipe(optim="sgd" if name != "sgd" else "adamw"))
    assert not any(map(torch.equal, control, theirs))


def test_epsilon_has_an_effect_and_is_that_of_the_recipe() -> None:
    theirs = steps(lambda model: [torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0, eps=0.1, fused=True)])
    assert all(map(torch.equal, steps(by_recipe(adam_epsilon=0.1)), theirs))


def test_every_name_of_transformers_is_known() -> None:
    """A new optimizer of transformers shows here: it is a row of ours, or refused with what is near."""
    theirs = {name.value for name in OptimizerNames}
    assert theirs <= {*words.OPTIMIZERS, *words.NO_OPTIMIZERS}
    assert {*words.OPTIMIZERS, *words.NO_OPTIMIZERS} - theirs == {
        "adamw",
        "muon",
        "adamw_hf",
        "ademamix_32bit",
        "paged_ademamix",
    }
    assert not set(words.OPTIMIZERS) & set(words.NO_OPTIMIZERS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("galore_adamw", "galore_adamw is not one of ours: it trains through a projection"),
        ("schedule_free_adamw", "Use adamw with lr_scheduler_type: constant_with_warmup"),
        ("lion_8bit", "package.module:Name, e.g. bitsandbytes.optim:Lion"),
    ],
)
def test_what_we_do_not_have_is_refused_with_what_is_near(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingSection(optim=name)


@pytest.mark.parametrize("name", words.WITHOUT_BETAS)
def test_options_of_adamw_have_no_effect_on_others(name: str) -> None:
    for option in ("adam_beta1", "adam_beta2", "adam_epsilon"):
        with pytest.raises(ValueError, match=f"{option} has no effect with optim {name}"):
            TrainingSection(optim=name, **{option: 0.5})


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_8_bits_want_bitsandbytes() -> None:
    with pytest.raises(ConfigError, match=r"bitsandbytes is not installed: pip install 'bitsandbytes>=0.46'"):
        OPTIMIZERS["adamw_8bit"].check()


def test_bytes_of_8_bits_by_hand() -> None:
    """4,352 numbers in 17 blocks: two moments of a byte each, and a scale of 4 bytes for each block of each."""
    count = OPTIMIZERS["adamw_8bit"].state_bytes
    assert count is not None
    large, small = (torch.nn.Parameter(torch.empty(n)) for n in (4352, 4095))
    assert count(large, False) == 2 * (4352 + 4 * 17)
    assert count(large, True) == 8 * 4352, "an embedding"
    assert count(small, False) == 8 * 4095


def test_8_bits() -> None:
    """Near AdamW in 32 bits, whose rounding is at most a few per cent of a step; embeddings are not rounded."""
    pytest.importorskip("bitsandbytes")
    exact, rounded = steps(by_recipe()), steps(by_recipe(optim="adamw_8bit"))
    differences = [float((a - b).abs().max()) for a, b in zip(exact, rounded, strict=True)]
    assert differences[0] < 1e-6, "the embedding"
    assert 1e-4 < differences[1] < 1e-2, "the one matrix with more than 4,095 numbers"
    with pytest.raises(ConfigError, match="computes on its CPU: use adamw_8bit or adamw"):
        OPTIMIZERS["paged_adamw_8bit"].check()


@pytest.mark.parametrize("name", ["adamw_torch", "adafactor", "sgd", "adamw_8bit"])
def test_a_state_that_was_saved_goes_on_bit_for_bit(name: str, tmp_path) -> None:
    if name == "adamw_8bit":
        pytest.importorskip("bitsandbytes")
    make = by_recipe(optim=name)
    whole, first, second = small_model(), small_model(), small_model()
    take(whole, make(whole), range(6))
    optimizers = make(first)
    take(first, optimizers, range(3))
    write_state(tmp_path / "state", optimizers, {})
    second.load_state_dict(first.state_dict())
    loaded = make(second)
    load_optimizers(tmp_path / "state", loaded)
    take(second, loaded, range(3, 6))
    assert all(map(torch.equal, second.parameters(), whole.parameters()))
    control = small_model()
    control.load_state_dict(first.state_dict())
    take(control, make(control), range(3, 6))
    assert name == "sgd" or not all(map(torch.equal, control.parameters(), whole.parameters())), "the state counts"


def half(groups) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups[0]["params"][:1], lr=1e-3)


def test_one_that_leaves_parameters_out(model64, monkeypatch) -> None:
    """They would never train, and their gradients would stay."""
    monkeypatch.setattr("testing_rewards.half", half, raising=False)
    section: Any = TrainingSection().model_copy(update={"optim": "testing_rewards:half"})
    with pytest.raises(ConfigError, match="takes 1 of the 68 parameters that train; wanted all"):
        make_optimizers(model64, section)
