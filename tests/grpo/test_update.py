"""Groups that teach nothing are not computed, and the update is what it would have been."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from testing_policy import completions
from vlm_r1.config import load_config
from vlm_r1.grpo.loss import LOSSES
from vlm_r1.grpo.reference import Reference
from vlm_r1.grpo.update import update_policy
from vlm_r1.models import Adapter
from vlm_r1.policy.logprobs import CompletionBatch, TokenLogProbs
from vlm_r1.runtime.phases import Phases
from vlm_r1.training.learner import Learner
from vlm_r1.types import Completion, EncodedPrompt, Group, Record, Rollout, Score, Segment, StopReason

TINY = 1e-200
"""An advantage that makes a group be computed, but adds nothing to a gradient in float64."""


def group(
    adapter: Adapter, prompt: EncodedPrompt, lengths: Sequence[int], advantages: Sequence[float], seed: int
) -> Group:
    rollouts = [
        Rollout(
            Completion.sampled(ids_T, (0.0,) * len(ids_T), "", StopReason.STOP),
            Score(0.0, {}, None, None, {}),
            advantage,
        )
        for ids_T, advantage in zip(completions(adapter, lengths, seed), advantages, strict=True)
    ]
    return Group(Record("0", "rec", "", (), None), prompt, tuple(rollouts))


@pytest.fixture
def learner(recipe, adapter):
    """`learner(**options)`: a fresh one on the tiny model in float64."""

    def make(**options: Any) -> Learner:
        config = load_config(recipe(**{"model.dtype": "float64", **options}))
        fresh = Learner(config, adapter, None, temperature=1.0)
        fresh.begin_step()
        return fresh

    return make


@pytest.fixture
def groups(adapter, prompts) -> list[Group]:
    """Two that teach, and two whose advantages are all 0."""
    return [
        group(adapter, prompts["wide"], [3, 7], [0.5, -0.5], seed=0),
        group(adapter, prompts["one"], [4, 4], [0.0, 0.0], seed=1),
        group(adapter, prompts["several"], [9, 2], [-1.0, 1.0], seed=2),
        group(adapter, prompts["none"], [1, 12], [0.0, 0.0], seed=3),
    ]


def computed(groups: Sequence[Group]) -> list[Group]:
    """The same groups, none of which is left out."""
    return [replace(g, rollouts=tuple(replace(r, advantage=r.advantage or TINY) for r in g.rollouts)) for g in groups]


def update(learner: Learner, groups: Sequence[Group], reference: Reference | None = None) -> dict[str, float]:
    metrics = update_policy(groups, groups[0], learner, reference, Phases())
    return {name: metric.total for name, metric in metrics.items()}


def weights(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in learner.model.named_parameters()}


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=1e-7, rtol=0, msg=name)


def positions(groups: Sequence[Group]) -> int:
    """What packed computes: each prompt once, and the completions."""
    return sum(len(g.encoded.ids_L) + sum(len(r.completion.ids_T) for r in g.rollouts) for g in groups)


@pytest.mark.parametrize("loss_type", LOSSES)
@pytest.mark.parametrize("budget", [100_000, 40], ids=["one part", "many parts"])
def test_leaving_groups_out_changes_nothing(loss_type: str, budget: int, learner, groups) -> None:
    options = {
        "grpo.loss_type": loss_type,
        "grpo.epsilon_high": 5.0 if loss_type == "cispo" else None,
        "grpo.num_iterations": 2,
        "training.max_tokens_per_micro_batch": budget,
        "training.max_grad_norm": 1e6,
    }
    skipping, computing = (learner(**options) for _ in range(2))
    start = weights(skipping)
    skipped, whole = update(skipping, groups), update(computing, computed(groups))
    assert skipped["tokens/policy"] <= whole["tokens/policy"] - 2 * positions([groups[1], groups[3]])
    assert skipped["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-9)
    assert skipped["loss"] == pytest.approx(whole["loss"], abs=1e-9)
    assert_equal(weights(skipping), weights(computing))
    moved = max(float((weights(skipping)[name] - start[name]).abs().max()) for name in start)
    assert moved > 1e-3


@pytest.mark.parametrize("loss_type", LOSSES)
def test_the_normalizer_counts_the_groups_left_out(loss_type: str, learner, groups) -> None:
    """Control: without them the gradient is larger, by their share of completions or tokens."""
    options = {"grpo.loss_type": loss_type, "training.max_grad_norm": 1e6}
    options |= {"grpo.epsilon_high": 5.0} if loss_type == "cispo" else {}
    teaching = [groups[0], groups[2]]
    norms = [update(learner(**options), chosen)["grad_norm"] for chosen in (groups, teaching)]
    tokens = (3 + 7 + 4 + 4 + 9 + 2 + 1 + 12) / (3 + 7 + 9 + 2)
    assert norms[1] / norms[0] == pytest.approx(tokens if loss_type in ("dapo", "cispo", "vespo") else 2.0)


def test_if_no_group_teaches_adamw_moves_by_its_momentum(learner, groups) -> None:
    idle, twin = (learner() for _ in range(2))
    silent = [replace(g, rollouts=tuple(replace(r, advantage=0.0) for r in g.rollouts)) for g in groups]
    for each in (idle, twin):
        update(each, groups)
    before = weights(idle)
    metrics = update(idle, silent)
    for parameter in twin.policy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    assert twin.update(0.0) == 0
    assert_equal(weights(idle), weights(twin))
    assert metrics["tokens/policy"] == positions([silent[0]]) - 7, "one completion of the spare group"
    assert (metrics["grad_norm"], metrics["loss"]) == (0, 0)
    moved = [name for name, old in before.items() if not torch.equal(old, weights(idle)[name])]
    assert len(moved) == len(before), "all weights move on by the momentum of the first update"


def test_a_first_step_in_which_no_group_teaches_changes_no_weight(learner, groups) -> None:
    idle = learner()
    before = weights(idle)
    update(idle, [groups[1], groups[3]])
    assert all(torch.equal(old, weights(idle)[name]) for name, old in before.items())


def test_with_a_reference_nothing_is_left_out(learner, groups, adapter) -> None:
    whole = learner(**{"grpo.beta": 0.1, "grpo.num_iterations": 2})
    reference = Reference(whole.config, adapter, whole)
    metrics = update(whole, groups, reference)
    assert metrics["tokens/policy"] == 2 * positions(groups)
    assert metrics["kl"] > 0
    assert update(whole, [groups[1], groups[3]], reference)["grad_norm"] > 0, "the way back to the reference"


def test_leaving_out_the_only_group_with_images_keeps_the_momentum_of_vision(learner, adapter, prompts) -> None:
    image = group(adapter, prompts["one"], [4, 4], [0.5, -0.5], seed=1)
    text = group(adapter, prompts["none"], [3, 5], [0.5, -0.5], seed=2)
    silent = replace(image, rollouts=tuple(replace(r, advantage=0.0) for r in image.rollouts))
    skipping, computing = learner(), learner()
    for each, second in ((skipping, [silent, text]), (computing, computed([silent, text]))):
        update(each, [image, text])
        update(each, second)
    assert_equal(weights(skipping), weights(computing))


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_a_process_without_groups_adds_nothing(beta: float, learner, groups, adapter) -> None:
    """Dynamic sampling may leave it none; its spare group takes part in the exchange of gradients with weight 0."""
    empty = learner(**{"grpo.beta": beta})
    reference = Reference(empty.config, adapter, empty) if beta else None
    with torch.no_grad():
        empty.model.lm_head.weight.mul_(1.1)  # away from the reference, so that a KL would show
    before = weights(empty)
    metrics = update_policy([], groups[0], empty, reference, Phases())
    assert metrics["grad_norm"].total == 0
    assert "kl" not in metrics, "no token counts"
    assert all(torch.equal(old, weights(empty)[name]) for name, old in before.items())


# what a step says of itself


def test_the_difference_from_the_sampler_is_logged(learner, groups) -> None:
    """The first iteration's, before the update; a second iteration and groups without signal do not count."""
    own = learner(**{"grpo.num_iterations": 2, "training.learning_rate": 1e-2})
    batch = CompletionBatch([g.encoded for g in groups], [[r.completion.ids_T for r in g.rollouts] for g in groups])
    with torch.no_grad():
        scored = own.policy(batch)
    rows = iter(scored.logprobs_NT.tolist())

    def sampled(group: Group, off: Sequence[float]) -> Group:
        """Rollouts whose sampler was off by these, at every token."""
        told = []
        for rollout, by in zip(group.rollouts, off, strict=True):
            ids = rollout.completion.ids_T
            logprobs = tuple(value + by for value in next(rows)[: len(ids)])
            told.append(replace(rollout, completion=replace(rollout.completion, segments=(Segment(ids, logprobs),))))
        return replace(group, rollouts=tuple(told))

    told = [sampled(group, off) for group, off in zip(groups, [(0.1, -0.3), (9, 9), (0, 0), (9, 9)], strict=True)]
    metrics = update_policy(told, told[0], own, None, Phases())
    mean, most = (metrics[f"sampling/sampling_logp_difference/{name}"] for name in ("mean", "max"))
    assert mean.total == pytest.approx(3 * 0.1 + 7 * 0.3, abs=1e-4)  # what is sampled is told in float32
    assert mean.count == 3 + 7 + 9 + 2
    assert most.total == pytest.approx(0.3, abs=1e-4)


def test_a_stop_token_left_out_of_the_loss_is_noticed(learner, groups) -> None:
    own = learner()

    def shorten(module: Any, args: Any, scored: TokenLogProbs) -> TokenLogProbs:
        lengths_N1 = scored.mask_NT.sum(1, keepdim=True)
        last_NT = torch.arange(scored.mask_NT.shape[1]) == lengths_N1 - 1
        return scored._replace(mask_NT=scored.mask_NT & ~last_NT)

    update(own, groups)
    own.policy.register_forward_hook(shorten)
    with pytest.raises(RuntimeError, match="the loss counted 17 tokens of 21"):
        update(own, groups)


@pytest.mark.parametrize("same", [True, False], ids=["the same dropout in each iteration", "control: another"])
def test_dropout_does_not_clip(same: bool, learner, groups, monkeypatch) -> None:
    """Two iterations without an update between are one policy, so no ratio leaves even GSPO's narrow clip."""
    options = {"grpo.loss_type": "gspo", "grpo.num_iterations": 2, "grpo.epsilon": 3e-4, "training.learning_rate": 0.0}
    own = learner(**options, **{"model.lora": {"r": 4, "lora_dropout": 0.3}})
    with torch.no_grad():
        for name, parameter in own.model.named_parameters():
            if "lora_B" in name:  # new ones are 0, and dropout would not show
                parameter.normal_(std=0.05)
    if not same:
        monkeypatch.setattr(Learner, "seed_passes", lambda self: None)
    metrics = update(own, groups)
    assert (metrics["clip_ratio/low"] + metrics["clip_ratio/high"] == 0) is same
