"""Several optimizer steps on parts of one batch of rollouts: the parts, and the update against a plain loop."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from testing_policy import judged_group, weights
from vlm_r1.config import load_config
from vlm_r1.config.objective import GrpoSection
from vlm_r1.errors import ConfigError
from vlm_r1.grpo.parts import check_parts, cut
from vlm_r1.grpo.update import update_policy
from vlm_r1.policy.logprobs import CompletionBatch
from vlm_r1.runtime.phases import Phases
from vlm_r1.training.learner import Learner
from vlm_r1.types import Group

EPSILON = 0.05
LEARNING_RATE = 3e-3
MAX_NORM = 0.7


@pytest.fixture
def groups(adapter, prompts) -> list[Group]:
    return [
        judged_group(adapter, prompts["wide"], [3, 7], [0.5, -0.5], seed=0),
        judged_group(adapter, prompts["one"], [4, 6], [1.5, -1.5], seed=1),
        judged_group(adapter, prompts["several"], [9, 2], [-1.0, 1.0], seed=2),
        judged_group(adapter, prompts["none"], [1, 12], [0.7, -0.7], seed=3),
    ]


@pytest.fixture
def learner(recipe, adapter):
    """`learner(**options)`: a fresh one on the tiny model in float64."""

    def make(**options: object) -> Learner:
        fixed = {
            "model.dtype": "float64",
            "training.learning_rate": LEARNING_RATE,
            "training.max_grad_norm": MAX_NORM,
        }
        fresh = Learner(load_config(recipe(**(fixed | options))), adapter, None, temperature=1.0)
        fresh.begin_step()
        return fresh

    return make


def plain_loop(
    learner: Learner, parts: Sequence[Sequence[Group]], iterations: int, *, old_is_current: bool = False
) -> list[float]:
    """GRPO's update as a slow loop over completions in layout `rows`, with torch's AdamW; returns the norms.

    Args:
        old_is_current: control: take each part's old log-probabilities from the weights that it meets.
    """
    policy = learner.bare_policy
    parameters = [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.999), weight_decay=0.0)

    def logprobs(one: Group, ids: Sequence[int]) -> torch.Tensor:
        return policy(CompletionBatch([one.encoded], [[ids]]), "rows").logprobs_NT[0]

    with torch.no_grad():
        old = {(id(g), n): logprobs(g, r.completion.ids_T) for p in parts for g in p for n, r in enumerate(g.rollouts)}
    norms = []
    for part in list(parts) * iterations:
        N = sum(len(one.rollouts) for one in part)
        loss = torch.zeros((), dtype=torch.float64)
        for one in part:
            for n, rollout in enumerate(one.rollouts):
                own = logprobs(one, rollout.completion.ids_T)
                ratio = (own - (own.detach() if old_is_current else old[id(one), n])).exp()
                clipped = ratio.clamp(1 - EPSILON, 1 + EPSILON)
                loss = loss - torch.minimum(ratio * rollout.advantage, clipped * rollout.advantage).mean() / N
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(parameters, MAX_NORM)))
        optimizer.step()
    return norms


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Between all weights. (AdamW makes a whole step of a gradient that is only rounding, so no single one tells.)"""
    return math.sqrt(sum(float((a[name] - b[name]).square().sum()) for name in a))


@pytest.mark.parametrize(
    ("parts", "iterations"),
    [
        pytest.param(2, 1, id="two parts"),
        pytest.param(4, 1, id="a group each"),
        pytest.param(2, 2, id="two parts, twice"),
    ],
)
def test_updates_equal_a_plain_loop_over_the_parts(parts: int, iterations: int, learner, groups) -> None:
    options = {"grpo.steps_per_generation": parts, "grpo.num_iterations": iterations, "grpo.epsilon": EPSILON}
    own, twin, control = learner(**options), learner(), learner()
    start = weights(own.model)
    metrics = update_policy(groups, groups[0], own, None, Phases())
    pieces = [groups[k::parts] for k in range(parts)]
    norms = plain_loop(twin, pieces, iterations)
    plain_loop(control, pieces, iterations, old_is_current=True)
    assert len(norms) == parts * iterations
    assert metrics["grad_norm"].total == pytest.approx(max(norms), rel=1e-6)
    assert metrics["clip_ratio/low"].total + metrics["clip_ratio/high"].total > 0, "a ratio left the clip"
    moved, apart = distance(weights(own.model), start), distance(weights(own.model), weights(twin.model))
    assert moved > 1e-3
    assert apart < 1e-4 * moved
    assert distance(weights(own.model), weights(control.model)) > 30 * apart, (
        "control: old log-probabilities that are not old"
    )


def test_the_old_pass_is_made_for_all_parts_but_the_first(learner, groups) -> None:
    own = learner(**{"grpo.steps_per_generation": 4, "training.max_tokens_per_micro_batch": 100_000})
    passes: list[tuple[int, bool]] = []

    def count(module, args, scored) -> None:
        passes.append((len(scored.mask_NT), scored.logprobs_NT.requires_grad))

    own.policy.register_forward_hook(count)
    update_policy(groups, groups[0], own, None, Phases())
    assert passes == [(2, False)] * 3 + [(2, True)] * 4


def test_the_difference_from_the_sampler_is_that_before_the_first_update(learner, groups) -> None:
    """The sampler says 0 for every token, so the sum is that of −log π of the untouched policy, whatever the parts."""
    found = []
    for parts in (1, 4):
        own = learner(**{"grpo.steps_per_generation": parts})
        metrics = update_policy(groups, groups[0], own, None, Phases())
        gap = metrics["sampling/sampling_logp_difference/mean"]
        found.append((gap.total, gap.count))
        policy = learner().bare_policy
        with torch.no_grad():
            scored = [
                policy(CompletionBatch([g.encoded], [[r.completion.ids_T for r in g.rollouts]])).logprobs_NT
                for g in groups
            ]
        assert gap.total == pytest.approx(-sum(float(one.sum()) for one in scored), rel=1e-9)
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    assert found[0][1] == 3 + 7 + 4 + 6 + 9 + 2 + 1 + 12


def test_dropout_leaves_the_ratio_at_1_without_an_update(learner, groups) -> None:
    """The pass for the old log-probabilities has the dropout of the update's pass, so even a narrow clip is not met."""
    options = {
        "grpo.loss_type": "gspo",
        "grpo.steps_per_generation": 2,
        "grpo.epsilon": 1e-9,
        "training.learning_rate": 0.0,
    }
    own = learner(**{"model.lora": {"r": 4, "lora_dropout": 0.3}, **options})
    with torch.no_grad():
        for name, parameter in own.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    metrics = update_policy(groups, groups[0], own, None, Phases())
    assert metrics["clip_ratio/low"].total + metrics["clip_ratio/high"].total == 0


def test_a_process_without_groups_in_a_part_still_takes_every_update(learner, groups) -> None:
    """Dynamic sampling may leave it groups at even places only; the second part is then a completion of weight 0."""
    own = learner(**{"grpo.steps_per_generation": 2})
    updates: list[float] = []
    update = own.update

    def counted(loss, diagnose):
        updates.append(loss)
        return update(loss, diagnose)

    own.update = counted
    update_policy(groups[:2], groups[0], own, None, Phases(), places=[0, 2])
    assert len(updates) == 2
    assert updates[1] == 0


def test_parts_are_cut_by_the_place_in_the_whole_step(groups) -> None:
    """Two processes with two groups each have the parts of one process with all four."""
    whole = cut(groups, [0, 1, 2, 3], 2)
    assert whole == [[groups[0], groups[2]], [groups[1], groups[3]]]
    first, second = cut(groups[:2], [0, 1], 2), cut(groups[2:], [2, 3], 2)
    assert [[*a, *b] for a, b in zip(first, second, strict=True)] == whole
    assert cut(groups, [0, 1, 2, 3], 1) == [groups]
    assert cut([], [], 3) == [[], [], []]


@pytest.mark.parametrize(
    ("parts", "prompts", "processes", "wanted"),
    [
        pytest.param(1, 5, 2, None, id="one part: the share of a process is checked elsewhere"),
        pytest.param(2, 4, 1, None, id="even"),
        pytest.param(2, 8, 4, None, id="one group of each part on each process"),
        pytest.param(2, 6, 2, "multiple of 2 x 2 = 4", id="three groups on a process"),
        pytest.param(4, 4, 2, "multiple of 4 x 2 = 8", id="fewer groups than parts"),
    ],
)
def test_parts_must_be_equal_on_all_processes(parts, prompts, processes, wanted, recipe) -> None:
    config = load_config(recipe(**{"training.prompts_per_step": prompts}))
    config = config.model_copy(update={"grpo": config.grpo.model_copy(update={"steps_per_generation": parts})})
    if wanted is None:
        check_parts(config, processes)
    else:
        with pytest.raises(ConfigError, match=wanted):
            check_parts(config, processes)


def test_a_recipe_with_unequal_parts_is_refused(recipe) -> None:
    with pytest.raises(ConfigError, match=r"steps_per_generation 3 does not divide training.prompts_per_step 4"):
        load_config(recipe(**{"grpo.steps_per_generation": 3}))


@pytest.mark.parametrize(("iterations", "parts", "differs"), [(1, 1, False), (2, 1, True), (1, 2, True)])
def test_ratios_can_differ_from_the_second_update_on(iterations, parts, differs) -> None:
    section = GrpoSection(num_iterations=iterations, steps_per_generation=parts)
    assert section.ratio_can_differ is differs
