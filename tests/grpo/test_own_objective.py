"""Objectives of one's own, by `package.module:Name`: what they are given, and what they may not return."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from vlm_r1.config import load_config
from vlm_r1.config.objective import GrpoSection
from vlm_r1.errors import ConfigError
from vlm_r1.grpo.loss import LOSSES, Loss, LossInput, TokenLosses, get_loss, grpo_loss
from vlm_r1.grpo.trainer import train

MASK_NT = torch.tensor([[True, True, False], [True, False, False]])


def given(junk: float = math.nan) -> LossInput:
    """Ratios 2, 1 and 3; whatever stands at masked positions."""
    logprobs_NT = torch.full((2, 3), -1.0).masked_fill(~MASK_NT, junk).requires_grad_()
    old_NT = -1.0 - torch.tensor([[2.0, 1.0, 9.0], [3.0, 9.0, 9.0]]).log()
    return LossInput(logprobs_NT, old_NT, None, torch.tensor([1.0, -0.5]), MASK_NT, 0.2, 0.3)


def weighted(given: LossInput, ratio_NT: torch.Tensor) -> TokenLosses:
    """Counts ratios above 1 + epsilon_high, and would notice anything at masked positions."""
    losses_NT = -ratio_NT * given.advantages_N[:, None] + 0 * given.logprobs_NT + 0 * given.old_logprobs_NT
    return TokenLosses(losses_NT, clipped_high_NT=ratio_NT > 1 + given.epsilon_high)


MINE = Loss(ratio="token", surrogate=weighted, mean="tokens")


def test_a_surrogate_is_given_clean_tensors_and_its_sums_are_counted() -> None:
    own = given()
    output = grpo_loss(own, MINE, normalizer=3.0)
    assert output.loss.item() == pytest.approx((-2 - 1 + 0.5 * 3) / 3)
    sums = {name: value.item() for name, value in output.sums.items()}
    assert sums == {"kl_sum": 0.0, "clipped_low": 0.0, "clipped_high": 2.0, "tokens": 3.0}
    (gradient_NT,) = torch.autograd.grad(output.loss, own.logprobs_NT)
    torch.testing.assert_close(gradient_NT, torch.tensor([[-2.0, -1.0, 0.0], [1.5, 0.0, 0.0]]) / 3)


def test_the_choices_are_combined_freely() -> None:
    """The ratio of gspo, √2 and 3, as weights capped at 2, with the mean of dr_grpo: logprobs are −1."""
    loss = Loss(ratio="sequence", surrogate="detached", mean="constant")
    capped = replace(given(0.0), epsilon_high=2.0)
    assert grpo_loss(capped, loss, normalizer=2 * 10).loss.item() == pytest.approx((2 * math.sqrt(2) - 0.5 * 2) / 20)


@pytest.mark.parametrize(
    ("surrogate", "message"),
    [
        pytest.param(lambda given, ratio_NT: -ratio_NT, "wanted TokenLosses", id="a tensor"),
        pytest.param(lambda given, ratio_NT: TokenLosses(-ratio_NT.sum(1)), "the shape of mask_NT", id="one a row"),
        pytest.param(
            lambda given, ratio_NT: TokenLosses(-ratio_NT, ratio_NT[:1] < 1), "the shape of mask_NT", id="a clip"
        ),
    ],
)
def test_what_a_surrogate_may_not_return(surrogate: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        grpo_loss(given(), Loss(ratio="token", surrogate=surrogate, mean="tokens"), normalizer=1.0)


def test_a_cap_below_1_is_refused() -> None:
    """A recipe is checked for losses of the table alone; without `epsilon_high` the cap would be `epsilon`."""
    with pytest.raises(ConfigError, match=r"capped at grpo.epsilon_high itself; got 0.3, wanted at least 1"):
        grpo_loss(given(), Loss(ratio="token", surrogate="detached", mean="tokens"), normalizer=1.0)


@pytest.mark.parametrize("choice", ["ratio", "surrogate", "mean"])
def test_a_choice_without_meaning_is_refused(choice: str) -> None:
    words: Any = {"ratio": "token", "surrogate": "clipped", "mean": "tokens"} | {choice: "median"}
    with pytest.raises(ValueError, match=f"{choice} is 'median', wanted one of"):
        Loss(**words)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("dr_gpro", 'Did you mean "dr_grpo"', id="a typing error"),
        pytest.param("nowhere:LOSS", "cannot be imported", id="no module"),
        pytest.param("math:pi", "is 3.14.*; wanted a Loss", id="no loss"),
    ],
)
def test_a_name_that_is_no_loss(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        get_loss(name)


def test_a_name_of_the_table() -> None:
    assert {get_loss(name) for name in LOSSES} == set(LOSSES.values())


def test_options_that_only_ones_own_objective_understands_are_left_to_it(recipe) -> None:
    """A recipe is read without importing what it names, so both limits are let through."""
    options = {"grpo.loss_type": "nowhere:LOSS", "grpo.epsilon": 0.1, "grpo.epsilon_high": 7.0}
    assert load_config(recipe(**options)).grpo.upper_epsilon == 7.0
    assert GrpoSection(loss_type="nowhere:LOSS", epsilon=0.1).upper_epsilon == 0.1


def test_a_surrogate_may_leave_anything_at_masked_positions() -> None:
    """Masked log-probabilities are 0, so that this one divides by 0 there."""

    def inverse(given: LossInput, ratio_NT: torch.Tensor) -> TokenLosses:
        return TokenLosses(ratio_NT * 0 + 1 / given.logprobs_NT)

    own = given(0.0)
    output = grpo_loss(own, Loss(ratio="token", surrogate=inverse, mean="tokens"), normalizer=3.0)
    assert output.loss.item() == pytest.approx(-1.0)
    (gradient_NT,) = torch.autograd.grad(output.loss, own.logprobs_NT)
    torch.testing.assert_close(gradient_NT, -MASK_NT.float() / 3)


@pytest.mark.parametrize(
    ("surrogate", "options", "message"),
    [
        pytest.param("detached", {}, "wanted at least 1: for example epsilon_high: 5", id="no cap"),
        pytest.param("clipped", {"epsilon": 0.1}, "no effect with num_iterations 1", id="a clip without effect"),
    ],
)
def test_options_that_do_not_suit_it_are_found_before_anything_is_loaded(
    surrogate, options, message, recipe, monkeypatch
) -> None:
    monkeypatch.setattr("testing_rewards.OWN_LOSS", Loss("token", surrogate, "tokens"), raising=False)
    own = {f"grpo.{name}": value for name, value in options.items()}
    with pytest.raises(ConfigError, match=message):
        train(load_config(recipe(**own, **{"grpo.loss_type": "testing_rewards:OWN_LOSS", "model.path": "nowhere"})))
