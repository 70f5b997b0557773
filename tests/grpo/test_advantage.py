"""Advantages by hand, against TRL's own lines, and as properties."""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trl.trainer import grpo_trainer

from vlm_r1.config import words
from vlm_r1.errors import ConfigError
from vlm_r1.grpo.advantage import ADVANTAGES, group_advantages, no_signal

REWARDS_PG = torch.tensor([[0.0, 1.0, 2.0], [0.5, 0.5, 0.5]], dtype=torch.float64)


def test_group_by_hand():
    # mean 1, unbiased variance ((−1)² + 0² + 1²) / (3 − 1) = 1
    expected = [[-1 / (1 + 1e-4), 0.0, 1 / (1 + 1e-4)], [0.0, 0.0, 0.0]]
    torch.testing.assert_close(group_advantages(REWARDS_PG, "group"), torch.tensor(expected, dtype=torch.float64))


def test_batch_by_hand():
    # all six: mean 4.5 / 6 = 0.75; squared deviations 0.75² + 0.25² + 1.25² + 3 · 0.25² = 2.375; / (6 − 1) = 0.475
    s = math.sqrt(0.475) + 1e-4
    expected = [[-1 / s, 0.0, 1 / s], [0.0, 0.0, 0.0]]
    torch.testing.assert_close(group_advantages(REWARDS_PG, "batch"), torch.tensor(expected, dtype=torch.float64))


def test_none_by_hand():
    expected = [[-1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    torch.testing.assert_close(group_advantages(REWARDS_PG, "none"), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_equal_rewards_give_exactly_zero_although_their_float_mean_differs(scale):
    rewards_PG = torch.tensor([[0.1] * 3, [1.0, 0.0, 0.0]], dtype=torch.float64)
    assert rewards_PG[0].mean() != 0.1  # 0.1 + 0.1 + 0.1 = 0.30000000000000004: the naive difference is not 0
    assert group_advantages(rewards_PG, scale)[0].tolist() == [0.0, 0.0, 0.0]


def test_no_signal_sees_any_difference():
    rewards_PG = torch.tensor([[1.0, 1.0], [1.0, 1.0 + 1e-6], [0.0, 1.0]])
    assert no_signal(rewards_PG).tolist() == [True, False, False]


@pytest.mark.parametrize(
    "rewards",
    [
        pytest.param([0.0, 1.0], id="no group axis"),
        pytest.param([[0.0], [1.0]], id="groups of one cannot be compared"),
        pytest.param([[0.0, math.nan]], id="nan reward"),
        pytest.param([[0.0, math.inf]], id="infinite reward"),
    ],
)
def test_what_no_reward_can_be_is_refused(rewards):
    with pytest.raises(ValueError, match="rewards_PG"):
        group_advantages(torch.tensor(rewards), "group")


@settings(deadline=None, max_examples=50)
@given(
    rewards=st.lists(st.lists(st.floats(-10, 10), min_size=4, max_size=4), min_size=1, max_size=5),
    scale=st.sampled_from(["group", "batch", "none"]),
    shift=st.floats(-5, 5),
)
def test_groups_centre_on_zero_and_a_constant_bonus_changes_nothing(rewards, scale, shift):
    rewards_PG = torch.tensor(rewards, dtype=torch.float64)
    advantages_PG = group_advantages(rewards_PG, scale)
    torch.testing.assert_close(advantages_PG.sum(1), torch.zeros(len(rewards), dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(group_advantages(rewards_PG + shift, scale), advantages_PG, atol=1e-6, rtol=1e-6)


def trl_advantages(rewards_PG: torch.Tensor, scale: str) -> torch.Tensor:
    """Run TRL's own statements: the branch of `_generate_and_score_completions` that turns rewards into advantages."""
    method = grpo_trainer.GRPOTrainer._generate_and_score_completions
    tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    test = "self.multi_objective_aggregation == 'sum_then_normalize'"
    (branch,) = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == test]
    rewards_per_func = rewards_PG.reshape(-1, 1)  # one reward function
    scope = {
        "self": SimpleNamespace(
            multi_objective_aggregation="sum_then_normalize", scale_rewards=scale, reward_weights=torch.ones(1)
        ),
        "rewards_per_func": rewards_per_func,
        "unscorable_mask": torch.isnan(rewards_per_func).all(dim=1),
        "num_generations": rewards_PG.shape[1],
        "device": rewards_PG.device,
        "torch": torch,
        "nanstd": grpo_trainer.nanstd,
    }
    exec(compile(ast.Module(body=branch.body, type_ignores=[]), "trl", "exec"), scope)
    return scope["advantages"].view_as(rewards_PG)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_equal_to_trl(scale):
    rewards_PG = torch.rand((6, 8), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rewards_PG[2] = 0.7
    torch.testing.assert_close(
        group_advantages(rewards_PG, scale), trl_advantages(rewards_PG, scale), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_completions_that_no_part_judged_are_equal_to_trl(scale):
    rewards_PG = torch.rand((6, 8), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    left_out = [(0, 0), (0, 5), *((1, g) for g in range(8)), *((2, g) for g in range(7)), *((3, g) for g in range(6))]
    for place in left_out:  # two of a group, all, all but one, all but two
        rewards_PG[place] = math.nan
    ours = group_advantages(rewards_PG, scale, judged_PG=~rewards_PG.isnan())
    theirs = torch.nan_to_num(trl_advantages(rewards_PG, scale), nan=0.0)  # the statement after the branch
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    assert all(ours[place] == 0 for place in left_out)
    counted_as_zero = group_advantages(rewards_PG.nan_to_num(0.0), scale)
    assert (ours - counted_as_zero).abs().max() > 0.1, "the control: a reward of 0 is something else"


def test_left_out_by_hand():
    # of 0, 1, 2 and one left out: mean 1, unbiased variance 2 / 2 = 1; in the other group one alone has no sibling
    rewards_PG = torch.tensor([[0.0, math.nan, 1.0, 2.0], [math.nan, 5.0, math.nan, math.nan]], dtype=torch.float64)
    judged_PG = ~rewards_PG.isnan()
    a = 1 / (1 + 1e-4)
    expected = torch.tensor([[-a, 0.0, 0.0, a], [0.0] * 4], dtype=torch.float64)
    torch.testing.assert_close(group_advantages(rewards_PG, "group", judged_PG=judged_PG), expected)
    assert no_signal(rewards_PG, judged_PG).tolist() == [False, True]


def test_nothing_judged_at_all_is_no_signal():
    rewards_PG = torch.full((2, 3), math.nan)
    for scale in ("group", "batch", "none"):
        assert group_advantages(rewards_PG, scale, judged_PG=~rewards_PG.isnan()).tolist() == [[0.0] * 3] * 2


def test_trl_tells_the_scales_apart():
    assert not torch.allclose(trl_advantages(REWARDS_PG, "group"), group_advantages(REWARDS_PG, "batch"), atol=1e-2)


def test_a_recipe_knows_the_names_of_the_table():
    assert tuple(ADVANTAGES) == words.ADVANTAGES


def rewards_themselves(rewards_PG, judged_PG):
    """No group is left out, and what is not judged was made 0."""
    return rewards_PG


def flat(rewards_PG, judged_PG):
    return rewards_PG.flatten()


def infinite(rewards_PG, judged_PG):
    return rewards_PG / 0


def test_a_function_of_ones_own(monkeypatch):
    rewards_PG = torch.tensor([[0.5, 0.5], [math.nan, 1.0]])
    monkeypatch.setitem(ADVANTAGES, "own", rewards_themselves)
    assert group_advantages(rewards_PG, "own", judged_PG=~rewards_PG.isnan()).tolist() == [[0.5, 0.5], [0.0, 1.0]]


@pytest.mark.parametrize("function", [flat, infinite])
def test_advantages_that_cannot_be(function, monkeypatch):
    monkeypatch.setitem(ADVANTAGES, "own", function)
    with pytest.raises(ConfigError, match=r'"own" returned .*; wanted finite numbers of shape \(1, 2\)'):
        group_advantages(torch.tensor([[0.0, 1.0]]), "own")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("groups", 'Did you mean "group"', id="a typing error"),
        pytest.param("nowhere:f", "cannot be imported", id="no module"),
        pytest.param("math:pi", "wanted a function", id="no function"),
    ],
)
def test_a_name_that_is_no_function(name, message):
    with pytest.raises(ConfigError, match=message):
        group_advantages(torch.tensor([[0.0, 1.0]]), name)
