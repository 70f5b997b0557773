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
from trl.trainer import grpo_trainer, rloo_trainer

from testing_losses import numbers_in_float64
from vlm_r1.config import words
from vlm_r1.errors import ConfigError
from vlm_r1.grpo.advantage import ADVANTAGES, decoupled_advantages, group_advantages, no_signal

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


@pytest.mark.parametrize("scale", ADVANTAGES)
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
    scale=st.sampled_from(list(ADVANTAGES)),
    shift=st.floats(-5, 5),
)
def test_groups_centre_on_zero_and_a_constant_bonus_changes_nothing(rewards, scale, shift):
    rewards_PG = torch.tensor(rewards, dtype=torch.float64)
    advantages_PG = group_advantages(rewards_PG, scale)
    torch.testing.assert_close(advantages_PG.sum(1), torch.zeros(len(rewards), dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(group_advantages(rewards_PG + shift, scale), advantages_PG, atol=1e-6, rtol=1e-6)


def test_leave_one_out_by_hand():
    # 0 − (1 + 2) / 2, 1 − (0 + 2) / 2, 2 − (0 + 1) / 2
    expected = [[-1.5, 0.0, 1.5], [0.0, 0.0, 0.0]]
    torch.testing.assert_close(group_advantages(REWARDS_PG, "rloo"), torch.tensor(expected, dtype=torch.float64))


def test_reinforce_plus_plus_by_hand():
    # differences −1, 0, 1, 0, 0, 0: mean 0, unbiased variance 2 / (6 − 1) = 0.4; "batch" divides by that of rewards
    s = math.sqrt(0.4) + 1e-4
    expected = [[-1 / s, 0.0, 1 / s], [0.0, 0.0, 0.0]]
    found = group_advantages(REWARDS_PG, "reinforce_plus_plus")
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    assert (found - group_advantages(REWARDS_PG, "batch")).abs().max() > 0.1


def test_reinforce_plus_plus_is_the_whitened_difference():
    """The obvious twin: subtract the group's mean, then the mean of all, and divide by the deviation of all."""
    rewards_PG = torch.rand((6, 8), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    differences_PG = rewards_PG - rewards_PG.mean(dim=1, keepdim=True)
    whitened_PG = (differences_PG - differences_PG.mean()) / (differences_PG.std() + 1e-4)
    torch.testing.assert_close(group_advantages(rewards_PG, "reinforce_plus_plus"), whitened_PG, atol=1e-12, rtol=0)


def test_rloo_is_equal_to_trls_trainer():
    rewards_PG = torch.rand((6, 8), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rewards_PG[1, 3] = rewards_PG[2, 1:] = math.nan
    statements = statements_of(rloo_trainer.RLOOTrainer, "scorable_counts", "grouped_sum")
    tree = ast.parse(textwrap.dedent(inspect.getsource(rloo_trainer.RLOOTrainer._generate_and_score_completions)))
    statements += [node for node in ast.walk(tree) if isinstance(node, ast.If) and "baselines =" in ast.unparse(node)][
        -1:
    ]
    scope = {"torch": torch, "grouped_rewards": rewards_PG, "rewards": rewards_PG.flatten(), "num_generations": 8}
    exec(compile(ast.Module(body=statements, type_ignores=[]), "trl", "exec"), scope)
    theirs_PG = torch.nan_to_num(scope["advantages"], nan=0.0).view_as(rewards_PG)  # the statement after
    ours_PG = group_advantages(rewards_PG, "rloo", judged_PG=~rewards_PG.isnan())
    torch.testing.assert_close(ours_PG, theirs_PG, atol=1e-12, rtol=0)


def statements_of(trainer, *names):
    """The assignments to these names in the method that turns rewards into advantages."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(trainer._generate_and_score_completions)))
    found = {node.targets[0].id: node for node in ast.walk(tree) if isinstance(node, ast.Assign) and named(node)}
    return [found[name] for name in names]


def named(node):
    return isinstance(node.targets[0], ast.Name)


def trl_advantages(rewards_PG: torch.Tensor, scale: str) -> torch.Tensor:
    """TRL's own statements for one reward function."""
    return trl_aggregated(rewards_PG[..., None], torch.ones(1), "sum_then_normalize", scale)


def trl_aggregated(parts_PGK, weights_K, aggregation: str, scale: str) -> torch.Tensor:
    """Run TRL's own statements: the branch of `_generate_and_score_completions` that turns rewards into advantages."""
    method = grpo_trainer.GRPOTrainer._generate_and_score_completions
    tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    test = f"self.multi_objective_aggregation == '{aggregation}'"
    (branch,) = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == test]
    rewards_PG, rewards_per_func = parts_PGK[..., 0], parts_PGK.reshape(-1, parts_PGK.shape[2])
    scope = {
        "self": SimpleNamespace(
            multi_objective_aggregation=aggregation,
            scale_rewards=scale,
            reward_weights=weights_K,
            reward_funcs=[None] * len(weights_K),
        ),
        "rewards_per_func": rewards_per_func,
        "unscorable_mask": torch.isnan(rewards_per_func).all(dim=1),
        "num_generations": rewards_PG.shape[1],
        "device": rewards_PG.device,
        "torch": torch,
        "nanstd": grpo_trainer.nanstd,
    }
    with numbers_in_float64():
        exec(compile(ast.Module(body=branch.body, type_ignores=[]), "trl", "exec"), scope)
    return scope["advantages"].view_as(rewards_PG)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_equal_to_trl(scale):
    rewards_PG = torch.rand((6, 8), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rewards_PG[2] = 0.7
    torch.testing.assert_close(
        group_advantages(rewards_PG, scale), trl_advantages(rewards_PG, scale), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_completions_that_no_part_judged_are_equal_to_trl(scale):
    rewards_PG = torch.rand((6, 8), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    left_out = [(0, 0), (0, 5), *((1, g) for g in range(8)), *((2, g) for g in range(7)), *((3, g) for g in range(6))]
    for place in left_out:  # two of a group, all, all but one, all but two
        rewards_PG[place] = math.nan
    ours = group_advantages(rewards_PG, scale, judged_PG=~rewards_PG.isnan())
    theirs = torch.nan_to_num(trl_advantages(rewards_PG, scale), nan=0.0)  # the statement after the branch
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
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
    for scale in ADVANTAGES:
        assert group_advantages(rewards_PG, scale, judged_PG=~rewards_PG.isnan()).tolist() == [[0.0] * 3] * 2


# GDPO: components are compared one by one


def test_decoupled_by_hand():
    """Of one component 0, 2 and of another 10, 40: both ±1/√2 of their deviation, whatever their size."""
    parts_PGK = torch.tensor([[[0.0, 10.0], [2.0, 40.0]], [[1.0, 5.0], [1.0, 5.0]]], dtype=torch.float64)
    z_0, z_1 = 1 / (math.sqrt(2) + 1e-4), 15 / (math.sqrt(450) + 1e-4)  # (r − mean) / (deviation + 1e-4)
    s = 1.0 * z_0 + 0.5 * z_1  # the sums are −s, s, 0, 0: unbiased variance 2 s² / 3
    a = s / (math.sqrt(2 / 3) * s + 1e-4)
    expected = torch.tensor([[-a, a], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(decoupled_advantages(parts_PGK, [1.0, 0.5]), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("left_out", [0.0, 0.3])
def test_decoupled_equals_trl(left_out, seed):
    generator = torch.Generator().manual_seed(seed)
    parts_PGK = torch.rand((6, 8, 3), dtype=torch.float64, generator=generator) * torch.tensor([1.0, 10.0, 0.1])
    parts_PGK[2, :, 1] = 0.7
    parts_PGK[torch.rand(parts_PGK.shape, generator=generator) < left_out] = math.nan
    if left_out:  # two completions that no component judged; one component that judged one of a group, and none
        parts_PGK[0, 0] = parts_PGK[3, 5] = parts_PGK[4, 1:, 0] = parts_PGK[5, :, 2] = math.nan
    weights_K = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    theirs = torch.nan_to_num(trl_aggregated(parts_PGK, weights_K, "normalize_then_sum", "group"), nan=0.0)
    ours = decoupled_advantages(parts_PGK, weights_K.tolist())
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    assert (ours - group_advantages((parts_PGK.nan_to_num(0.0) * weights_K).sum(-1), "group")).abs().max() > 0.1


def test_decoupled_components_that_are_equal_give_exactly_zero():
    parts_PGK = torch.tensor([[[0.1, 0.3]] * 3, [[1.0, 0.0], [0.0, 1.0], [0.0, 0.5]]], dtype=torch.float64)
    assert decoupled_advantages(parts_PGK, [1.0, 1.0])[0].tolist() == [0.0, 0.0, 0.0]


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
