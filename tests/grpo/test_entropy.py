"""The tokens that train by their entropy: which they are, and what an update with them is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from testing_policy import completions
from vlm_r1.config import load_config
from vlm_r1.grpo.batch import loss_batches
from vlm_r1.grpo.entropy import ALL_TOKENS, EntropyRange, top_entropies
from vlm_r1.grpo.update import set_entropy_range, update_policy
from vlm_r1.runtime.phases import Phases
from vlm_r1.training.learner import Learner
from vlm_r1.types import Completion, Group, Record, Rollout, Score, StopReason


@pytest.mark.parametrize(
    ("entropies", "quantile", "threshold", "tokens"),
    [
        pytest.param([0.0, 3.0, 1.0, 2.0, 4.0], 0.5, 2.0, 3, id="the median and above"),
        pytest.param([0.0, 1.0, 2.0, 3.0], 0.5, 1.5, 2, id="between two neighbours"),
        pytest.param([0.0, 1.0, 2.0], 1.0, 0.0, 3, id="all"),
        pytest.param([0.0, 1.0, 2.0], 0.0, 2.0, 1, id="the highest"),
        pytest.param([1.0, 1.0, 1.0], 0.2, 1.0, 3, id="equal ones are all at the threshold"),
        pytest.param([], 0.2, -np.inf, 1, id="no token"),
    ],
)
def test_top_entropies(entropies, quantile, threshold, tokens) -> None:
    assert top_entropies(np.array(entropies), quantile) == EntropyRange(threshold, tokens)


@pytest.fixture
def groups(adapter, prompts) -> list[Group]:
    """Three groups; the second has no advantage, and in each the last completion was cut off."""

    def group(prompt: str, lengths: list[int], advantage: float, seed: int) -> Group:
        rollouts = [
            Rollout(
                Completion.sampled(ids_T, (-1.0,) * len(ids_T), "", StopReason.LENGTH if g == 2 else StopReason.STOP),
                Score(0.0, {}, None, None, {}),
                (-1) ** g * advantage,
            )
            for g, ids_T in enumerate(completions(adapter, lengths, seed))
        ]
        return Group(Record("0", "rec", "", (), None), prompts[prompt], tuple(rollouts))

    return [group("wide", [3, 7, 5], 0.5, 0), group("one", [4, 4, 9], 0.0, 1), group("none", [8, 2, 6], 1.0, 2)]


@pytest.fixture
def learner(recipe, adapter):
    """`learner(**options)`: a fresh one on the tiny model in float64."""

    def make(**options: Any) -> Learner:
        fresh = Learner(load_config(recipe(**{"model.dtype": "float64", **options})), adapter, None, temperature=1.0)
        fresh.begin_step()
        return fresh

    return make


def entropies_of(learner: Learner, group: Group) -> list[list[float]]:
    with torch.no_grad():
        parts = [learner.score(batch.batch) for batch in loss_batches([group], learner)]
    return [row[mask].tolist() for part in parts for row, mask in zip(part.entropies_NT, part.mask_NT, strict=True)]


@pytest.mark.parametrize("budget", [100_000, 10], ids=["one part", "many parts"])
def test_the_quantile_is_of_the_whole_step(budget, learner, groups) -> None:
    """Groups without an advantage count, completions that are left out of the loss do not."""
    options = {"grpo.top_entropy_quantile": 0.4, "training.max_tokens_per_micro_batch": budget}
    own = learner(**options, **{"grpo.mask_truncated_completions": True})
    values = np.array([value for group in groups for row in entropies_of(own, group)[:2] for value in row])
    batches = list(loss_batches([groups[0], groups[2]], own))
    set_entropy_range(batches, [groups[1]], own)
    expected = top_entropies(values, 0.4)
    for batch in batches:
        assert batch.entropy.tokens == expected.tokens
        assert batch.entropy.threshold == pytest.approx(expected.threshold, abs=1e-9)
    assert len(values) == 3 + 7 + 4 + 4 + 8 + 2


def test_a_bonus_alone_counts_tokens_without_a_pass(learner, groups) -> None:
    own = learner(**{"grpo.entropy_coef": 0.1, "grpo.mask_truncated_completions": True})
    batches = list(loss_batches(groups, own))
    own.policy.register_forward_hook(lambda *_: pytest.fail("no pass is needed"))
    set_entropy_range(batches, [], own)
    assert {batch.entropy for batch in batches} == {EntropyRange(tokens=3 + 7 + 4 + 4 + 8 + 2)}


def test_without_an_option_nothing_is_counted(learner, groups) -> None:
    own = learner()
    batches = list(loss_batches(groups, own))
    own.policy.register_forward_hook(lambda *_: pytest.fail("no pass is needed"))
    set_entropy_range(batches, [], own)
    assert {batch.entropy for batch in batches} == {ALL_TOKENS}


def test_dropout_is_that_of_the_training_pass(learner, groups) -> None:
    own = learner(**{"model.lora": {"r": 4, "lora_dropout": 0.5}, "grpo.top_entropy_quantile": 0.4})
    with torch.no_grad():
        for name, parameter in own.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5)
    (batch,) = loss_batches(groups, own)
    set_entropy_range([batch], [], own)
    for same in (True, False):
        if same:
            own.seed_passes()
        scored = own.score(batch.batch)
        values = scored.entropies_NT[scored.mask_NT].detach().double().numpy()
        assert (top_entropies(values, 0.4) == batch.entropy) is same


def gradients(own: Learner, groups: list[Group], monkeypatch) -> dict[str, torch.Tensor]:
    """Gradients of the first update, which is not taken."""
    found: dict[str, torch.Tensor] = {}

    def keep(self, loss, diagnose) -> float:
        found.update({name: p.grad.clone() for name, p in self.model.named_parameters()})
        self.policy.zero_grad()
        return 0.0

    monkeypatch.setattr(Learner, "update", keep)
    update_policy(groups, groups[0], own, None, Phases())
    return found


def test_the_gradient_is_that_of_the_formula(learner, groups, monkeypatch) -> None:
    """The obvious twin: one pass over everything, the naive loss, and autograd."""
    options = {"grpo.loss_type": "dapo", "grpo.entropy_coef": 0.3, "grpo.top_entropy_quantile": 0.4}
    own = learner(**options, **{"training.max_tokens_per_micro_batch": 10})
    found = gradients(own, groups, monkeypatch)
    whole = learner(**options)
    (batch,) = loss_batches(groups, whole)
    scored = whole.score(batch.batch, entropy_gradient=True)
    values = scored.entropies_NT[scored.mask_NT]
    top_NT = scored.mask_NT & (scored.entropies_NT >= float(np.quantile(values.detach().numpy(), 0.6)))
    gains_NT = scored.logprobs_NT * batch.advantages_N[:, None]
    loss = -gains_NT[top_NT].sum() / len(values) - 0.3 * scored.entropies_NT[top_NT].mean()
    loss.backward()
    for name, parameter in whole.model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-7, rtol=0, msg=name)  # norms are in float32
    assert max(float(gradient.abs().max()) for gradient in found.values()) > 1e-3


def test_a_bonus_makes_groups_without_an_advantage_train(learner, groups) -> None:
    silent = [replace(g, rollouts=tuple(replace(r, advantage=0.0) for r in g.rollouts)) for g in groups]
    metrics = [
        update_policy(silent, silent[0], learner(**options), None, Phases())
        for options in ({}, {"grpo.entropy_coef": 0.1}, {"grpo.top_entropy_quantile": 0.5})
    ]
    norms = [metric["grad_norm"].total for metric in metrics]
    assert norms[1] > 0
    assert norms[0] == norms[2] == 0
    entropy = metrics[1]["entropy"]
    assert metrics[1]["loss"].total == pytest.approx(-0.1 * entropy.total / entropy.count, abs=1e-9)
