"""The perception-aware term by hand, against a plain loop, and in a small run with a control."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from testing_policy import judged_group, weights
from vlm_r1.config import load_config
from vlm_r1.config.objective import LOSSES, GrpoSection
from vlm_r1.errors import ConfigError
from vlm_r1.grpo.batch import loss_batches
from vlm_r1.grpo.perception import perception_losses, perception_output
from vlm_r1.grpo.trainer import train
from vlm_r1.grpo.update import compute_loss, update_policy
from vlm_r1.planning.plan import make_plan
from vlm_r1.planning.prompts import made_up_prompt
from vlm_r1.policy.logprobs import CompletionBatch
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.phases import Phases
from vlm_r1.training.learner import Learner
from vlm_r1.types import Group

COEF, ENTROPY_COEF = 0.3, 0.05
LEARNING_RATE = 3e-3


# by hand


@pytest.mark.parametrize(
    ("logprob", "blank", "counts", "loss"),
    [
        pytest.param(-1.0, -3.0, True, -0.5 * (math.exp(-2) + 2 - 1) + 0.1 * 4, id="the image made it likelier"),
        pytest.param(-3.0, -1.0, True, -0.5 * (math.exp(2) - 2 - 1) + 0.1 * 4, id="the image made it less likely"),
        pytest.param(-1.0, -1.0, True, 0.1 * 2, id="the image made no difference: surprisal alone"),
        pytest.param(-1.0, -21.0, True, -0.5 * 10 + 0.1 * 22, id="e^-20 + 20 - 1 = 19 is capped at 10"),
        pytest.param(-1.0, -3.0, False, 0.0, id="masked"),
        pytest.param(-math.inf, math.nan, False, 0.0, id="masked, whatever is there"),
    ],
)
def test_the_loss_of_a_token(logprob, blank, counts, loss) -> None:
    given = (torch.tensor([[value]], dtype=torch.float64) for value in (logprob, blank))
    found = perception_losses(*given, torch.tensor([[counts]]), 0.5, 0.1)
    assert found.item() == pytest.approx(loss, abs=1e-12)


@pytest.mark.parametrize(("d", "capped"), [(-2.0, False), (1.5, False), (-30.0, True), (0.0, False)])
def test_both_sides_have_the_gradient_of_the_formula(d: float, capped: bool) -> None:
    """∂k3/∂log π = 1 − e^d and ∂k3/∂log π_blank = e^d − 1; none beyond the cap. Surprisal: −1 each."""
    logprobs = torch.tensor([[-1.0]], dtype=torch.float64, requires_grad=True)
    blank = torch.tensor([[-1.0 + d]], dtype=torch.float64, requires_grad=True)
    perception_losses(logprobs, blank, torch.tensor([[True]]), COEF, ENTROPY_COEF).sum().backward()
    slope = 0.0 if capped else 1 - math.exp(d)
    assert logprobs.grad.item() == pytest.approx(-COEF * slope - ENTROPY_COEF)
    assert blank.grad.item() == pytest.approx(COEF * slope - ENTROPY_COEF)


def test_the_estimate_is_the_kl_of_the_policy_from_its_blank_self() -> None:
    """Over tokens drawn from p, the mean of k3 is Σ p log(p / q), and not Σ q log(q / p)."""
    p, q = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)
    everything = torch.ones(1, 3, dtype=torch.bool)
    k3 = -perception_losses(p.log()[None], q.log()[None], everything, 1.0, 0.0)[0]
    assert (p * k3).sum().item() == pytest.approx((p * (p / q).log()).sum().item())
    assert (p * k3).sum().item() != pytest.approx((q * (q / p).log()).sum().item())


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        pytest.param("grpo", ((1 + 3) / 2 + 8 / 1) / 4, id="mean over each completion's tokens"),
        pytest.param("dapo", (1 + 3 + 8) / 4, id="sum over all tokens"),
    ],
)
def test_it_is_averaged_as_the_policy_loss_is(loss_type: str, expected: float) -> None:
    """Surprisals of 1, 3 and 8 with weight 1; the KL has none, as both sides are equal."""
    logprobs = torch.tensor([[-0.5, -1.5], [-4.0, -9.0]], dtype=torch.float64)
    mask = torch.tensor([[True, True], [True, False]])
    grpo = GrpoSection(perception_coef=1.0, perception_entropy_coef=1.0)
    found = perception_output(logprobs, logprobs.clone(), mask, LOSSES[loss_type], grpo, normalizer=4.0)
    assert found.loss.item() == pytest.approx(expected)
    assert {name: value.item() for name, value in found.sums.items()} == {
        "perception_kl_sum": 0.0,
        "perception_tokens": 3.0,
    }


def test_a_recipe_whose_entropy_term_has_nothing_to_hold_is_refused(recipe) -> None:
    with pytest.raises(ConfigError, match="perception_entropy_coef has no effect with perception_coef 0"):
        load_config(recipe(**{"grpo.perception_entropy_coef": 0.03}))


# an update against a plain loop


@pytest.fixture
def groups(adapter, prompts) -> list[Group]:
    """With one image, with several and without signal, without any image."""
    return [
        judged_group(adapter, prompts["wide"], [3, 7], [0.5, -0.5], seed=0),
        judged_group(adapter, prompts["several"], [9, 2], [0.0, 0.0], seed=2),
        judged_group(adapter, prompts["none"], [1, 12], [0.7, -0.7], seed=3),
    ]


@pytest.fixture
def learner(recipe, adapter):
    """`learner(**options)`: a fresh one on the tiny model in float64."""

    def make(**options: object) -> Learner:
        fixed = {"model.dtype": "float64", "training.learning_rate": LEARNING_RATE}
        fresh = Learner(load_config(recipe(**(fixed | options))), adapter, None, temperature=1.0)
        fresh.begin_step()
        return fresh

    return make


ON = {"grpo.perception_coef": COEF, "grpo.perception_entropy_coef": ENTROPY_COEF}


def largest_step(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def plain_update(learner: Learner, groups: Sequence[Group], *, frozen_blank: bool = False) -> tuple[float, float]:
    """One on-policy step of loss type grpo as a slow loop in layout `rows`; returns loss and mean k3.

    Args:
        frozen_blank: control: the side with blank images has no gradient, as in the authors' default.
    """
    policy = learner.bare_policy
    parameters = [p for p in policy.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.999), weight_decay=0.0)
    loss, N = torch.zeros((), dtype=torch.float64), sum(len(one.rollouts) for one in groups)
    kls: list[float] = []
    for one in groups:
        for rollout in one.rollouts:
            batch = CompletionBatch([one.encoded], [[rollout.completion.ids_T]])
            own = policy(batch, "rows").logprobs_NT[0]
            tokens = -rollout.advantage * (own - own.detach()).exp()
            if one.encoded.frames:
                grey = {"pixel_values": torch.zeros_like(one.encoded.vision["pixel_values"])}
                prompt = replace(one.encoded, vision={**one.encoded.vision, **grey})
                blank = policy(batch._replace(prompts=[prompt]), "rows").logprobs_NT[0]
                blank = blank.detach() if frozen_blank else blank
                k3 = (blank - own).exp() - (blank - own) - 1
                kls += k3.tolist()
                tokens = tokens - COEF * k3.clamp(max=10.0) - ENTROPY_COEF * (own + blank)
            loss = loss + tokens.mean() / N
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    return float(loss.detach()), sum(kls) / len(kls)


@pytest.mark.parametrize("budget", [40, 100_000], ids=["many micro-batches", "one"])
def test_an_update_equals_a_plain_loop(budget: int, learner, groups) -> None:
    own, twin, control = learner(**ON, **{"training.max_tokens_per_micro_batch": budget}), learner(), learner()
    start = weights(own.model)
    metrics = update_policy(groups, groups[0], own, None, Phases())
    loss, kl = plain_update(twin, groups)
    plain_update(control, groups, frozen_blank=True)
    assert metrics["loss"].total == pytest.approx(loss, rel=1e-7)
    found = metrics["perception_kl"]
    assert found.count == 3 + 7 + 9 + 2
    assert found.total / found.count == pytest.approx(kl, rel=1e-6)
    assert kl > 1e-3, "the tiny model sees its image"
    moved, apart = largest_step(weights(own.model), start), largest_step(weights(own.model), weights(twin.model))
    assert moved > 1e-3
    assert apart < 1e-2 * moved
    assert largest_step(weights(own.model), weights(control.model)) > 10 * apart, (
        "control: only one side has a gradient"
    )


def test_micro_batches_leave_room_for_the_blank_twins(learner, groups) -> None:
    own = learner(**ON, **{"training.max_tokens_per_micro_batch": 150})
    made = list(loss_batches(groups, own))
    assert all(batch.positions <= 150 or len(batch.labels_N) == 1 for batch in made)
    lengths = [len(g.encoded.ids_L) for g in groups]
    completion = [3 + 7, 9 + 2, 1 + 12]
    one = list(loss_batches(groups, learner(**ON, **{"training.max_tokens_per_micro_batch": 100_000})))
    twice = [2, 2, 1]
    assert [batch.positions for batch in one] == [
        sum(n * (prompt + own) for n, prompt, own in zip(twice, lengths, completion, strict=True))
    ]


def test_one_completion_by_itself_has_its_share_of_the_loss(learner, groups) -> None:
    """What names the cause of a loss that is not finite computes each completion alone."""
    own = learner(**ON)
    (batch,) = loss_batches(groups, learner(**ON, **{"training.max_tokens_per_micro_batch": 100_000}))
    with torch.no_grad():
        _, whole = compute_loss(batch, own, 6.0)
        alone = [compute_loss(batch.one(n), own, 6.0)[1] for n in range(6)]
    assert sum(float(one.loss) for one in alone) == pytest.approx(float(whole.loss), rel=1e-7)
    assert ["perception_kl_sum" in one.sums for one in alone] == [True] * 4 + [False] * 2


def test_groups_without_images_learn_as_if_the_term_were_off(learner, groups) -> None:
    text = [groups[2]]
    on, off = learner(**ON), learner()
    for each in (on, off):
        metrics = update_policy(text, text[0], each, None, Phases())
        assert "perception_kl" not in metrics
    assert all(torch.equal(a, b) for a, b in zip(weights(on.model).values(), weights(off.model).values(), strict=True))


def test_a_group_without_signal_learns_by_the_term_alone(learner, groups) -> None:
    silent = [groups[1]]
    for options, moves in ((ON, True), ({}, False)):
        own = learner(**options)
        before = weights(own.model)
        update_policy(silent, silent[0], own, None, Phases())
        assert (largest_step(weights(own.model), before) > 1e-3) is moves


def test_parts_and_dropout_leave_ratios_at_1(learner, groups) -> None:
    """The pass for old log-probabilities has the twins too, so its dropout is that of the update."""
    options = {"grpo.loss_type": "gspo", "grpo.steps_per_generation": 2, "grpo.epsilon": 1e-9}
    own = learner(
        **ON, **options, **{"training.learning_rate": 0.0, "model.lora": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.3}}
    )
    with torch.no_grad():
        for name, parameter in own.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    metrics = update_policy([groups[0], groups[0], groups[2], groups[2]], groups[0], own, None, Phases())
    assert metrics["clip_ratio/low"].total + metrics["clip_ratio/high"].total == 0


# runs and plans


def test_the_kl_rises_in_a_run_and_not_in_its_control(recipe, tmp_path) -> None:
    """Six steps on equal rewards, so that nothing else is learnt; the control has a weight too small to move."""
    found = []
    for name, coef in (("on", 0.5), ("control", 1e-12)):
        options = {
            "output_dir": str(tmp_path / name),
            "rewards": {"format": 1.0},  # a random model never earns it
            "grpo.perception_coef": coef,
            "training.max_steps": 6,
        }
        train(load_config(recipe(**options)))
        found.append([row["perception_kl"] for row in read_metrics(tmp_path / name / "metrics.jsonl")])
    on, control = found
    assert on[0] == pytest.approx(control[0], rel=1e-6), "before the first update both are the same policy"
    assert on[-1] > 1.2 * on[0]
    assert on[-1] > 1.2 * control[-1]


@pytest.mark.parametrize(("images", "copies"), [(1, 2), (0, 1)], ids=["images", "control: text alone has no twins"])
def test_a_plan_counts_the_twins(images: int, copies: int, recipe) -> None:
    """A budget above the whole step: 2 prompts, each with 2 completions of 8 tokens."""
    options = {
        "grpo.perception_coef": 0.02,
        "grpo.num_generations": 2,
        "training.prompts_per_step": 2,
        "training.max_tokens_per_micro_batch": 4096,
        "training.trust_checks": False,
    }
    config = load_config(recipe(**options))
    prompt = made_up_prompt(config, (84, 56), images=images, text_tokens=20)
    plan = make_plan(config, prompt, 1)
    assert plan.positions == plan.whole_step == copies * 2 * (len(prompt.encoded.ids_L) + 2 * 8)
    assert plan.images == copies * 2 * images
    assert plan.lengths.least == copies * (len(prompt.encoded.ids_L) + 8)
