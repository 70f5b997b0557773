"""What the completions of a group are compared by, and whether it differs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from testing_policy import completions
from vlm_r1.config import Config, load_config
from vlm_r1.grpo.advantage import decoupled_advantages, group_advantages
from vlm_r1.grpo.compared import advantages_of, compare, has_signal
from vlm_r1.types import Completion, Group, Record, Rollout, Score, StopReason

SUMMED: dict[str, Any] = {"rewards": {"accuracy": 1.0, "format": 2.0, "length": 0.0}}
DECOUPLED = SUMMED | {"grpo.multi_objective_aggregation": "normalize_then_sum"}


@pytest.fixture
def config(recipe):
    return lambda options: load_config(recipe(**options))


@pytest.fixture
def group(adapter, prompts):
    """`group(parts, …)`: accuracy, format and length of each completion; None: left out."""

    def make(*parts_GK: tuple[float | None, ...]) -> Group:
        rollouts = []
        for ids_T, own in zip(completions(adapter, [3] * len(parts_GK), 0), parts_GK, strict=True):
            named = dict(zip(("length", "format", "accuracy"), own[::-1], strict=True))  # in another order
            weights = {"accuracy": 1.0, "format": 2.0, "length": 0.0}
            present = [weights[name] * part for name, part in named.items() if part is not None]
            score = Score(sum(present) if present else None, named, None, None, {})
            rollouts.append(Rollout(Completion.sampled(ids_T, (0.0,) * 3, "", StopReason.STOP), score, 0.0))
        return Group(Record("0", "rec", "", (), None), prompts["one"], tuple(rollouts))

    return make


@pytest.mark.parametrize(
    ("parts", "summed", "decoupled"),
    [
        pytest.param([(1, 0, 0), (0, 0, 0)], True, True, id="one component differs"),
        pytest.param([(1, 0, 0), (1, 0, 0)], False, False, id="none differs"),
        pytest.param([(2, 0, 0), (0, 1, 0)], False, True, id="components differ, their weighted sum does not"),
        pytest.param([(1, 0, 5), (1, 0, 9)], False, False, id="only a component of weight 0 differs"),
        pytest.param([(1, None, 0), (1, 0, 0)], False, False, id="a component left one out"),
        pytest.param([(None, None, None), (1, 0, 0)], False, False, id="all left one out"),
    ],
)
def test_signal(parts, summed, decoupled, group, config) -> None:
    assert has_signal(group(*parts), config(SUMMED)) is summed
    own = config(DECOUPLED)
    assert has_signal(group(*parts), own) is decoupled
    advantages_PG = advantages_of(compare([group(*parts)], own), own)
    assert bool(advantages_PG.any()) is decoupled, "a group without signal has no advantage"


def test_the_total_or_the_components_in_the_order_of_the_recipe(group, config) -> None:
    groups = [group((1, 0.5, 7), (None, 0.25, 8)), group((None, None, None), (0, 0, 9))]
    totals, parts = (compare(groups, config(options)) for options in (SUMMED, DECOUPLED))
    assert totals == [[[2.0], [0.5]], [[None], [0.0]]]
    assert parts == [[[1, 0.5, 7], [None, 0.25, 8]], [[None, None, None], [0, 0, 9]]]


def test_advantages_are_those_of_the_recipe(group, config) -> None:
    groups = [group((1, 0.5, 7), (0, 1.0, 8), (None, 0.25, 9)), group((0, 0, 0), (1, 0, 0), (None, None, None))]

    def found(own: Config) -> torch.Tensor:
        return advantages_of(compare(groups, own), own)

    nan = float("nan")
    rewards_PG = torch.tensor([[2.0, 2.0, 0.5], [0.0, 1.0, nan]], dtype=torch.float64)
    judged_PG = ~rewards_PG.isnan()
    assert torch.equal(found(config(SUMMED)), group_advantages(rewards_PG, "group", judged_PG=judged_PG))
    scaled = config(SUMMED | {"grpo.scale_rewards": "rloo"})
    assert torch.equal(found(scaled), group_advantages(rewards_PG, "rloo", judged_PG=judged_PG))
    parts_PGK = torch.tensor(
        [[[1, 0.5, 7], [0, 1.0, 8], [nan, 0.25, 9]], [[0, 0, 0], [1, 0, 0], [nan, nan, nan]]], dtype=torch.float64
    )
    assert torch.equal(found(config(DECOUPLED)), decoupled_advantages(parts_PGK, [1.0, 2.0, 0.0]))
