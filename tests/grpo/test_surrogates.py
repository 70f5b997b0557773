"""Options of the surrogates, and what leaves tokens out of the policy loss: by hand, and against TRL's own code."""

from __future__ import annotations

import math
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from trl.trainer.rloo_trainer import RLOOTrainer

from testing_losses import (
    loss_of,
    normalizer_of,
    random_batch,
    random_entropies,
    tensor,
    trl_loss,
)
from vlm_r1.grpo.entropy import top_entropies
from vlm_r1.grpo.loss import LOSSES, LossInput, grpo_loss
from vlm_r1.grpo.surrogates import gamma_surrogate

LOSS_TYPES = list(LOSSES)
CLIPPED = [name for name, loss in LOSSES.items() if loss.surrogate == "clipped"]
LN = math.log


def one_token(ratio, advantage):
    """A batch of one token with this ratio; its log-probability is −1."""
    logprobs_NT = tensor([[-1.0]]).requires_grad_()
    return logprobs_NT, tensor([[-1.0 - LN(ratio)]]), None, tensor([advantage]), torch.tensor([[True]])


def value_and_gradient(batch, loss_type, **options):
    loss = loss_of(batch, loss_type, **options).loss
    return loss.item(), torch.autograd.grad(loss, batch[0])[0].item()


# the two-sided clip: min(ρ, delta) in the first term


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        pytest.param(5.0, -2.0, 2 * 4.0, 0.0, id="A < 0 beyond delta: its loss ends at delta, no gradient"),
        pytest.param(3.0, -2.0, 2 * 3.0, 2 * 3.0, id="A < 0 below delta: as without"),
        pytest.param(5.0, 2.0, -2 * 1.3, 0.0, id="A > 0: clipped at 1.3 already"),
        pytest.param(0.5, -2.0, 2 * 0.8, 0.0, id="A < 0 below 0.8: clipped there"),
    ],
)
def test_delta_by_hand(ratio, advantage, loss, gradient):
    found = value_and_gradient(one_token(ratio, advantage), "grpo", options={"delta": 4.0})
    assert found == pytest.approx((loss, gradient), abs=1e-12)


def test_without_delta_a_bad_token_has_no_limit():
    assert value_and_gradient(one_token(100.0, -2.0), "grpo") == pytest.approx((200.0, 200.0))


def test_delta_counts_as_a_clip_above():
    batch = one_token(5.0, -2.0)
    assert loss_of(batch, "grpo").sums["clipped_high"] == 0
    assert loss_of(batch, "grpo", options={"delta": 4.0}).sums["clipped_high"] == 1


# sapo: −(4 / τ) sigmoid(τ (ρ − 1)) A; d/dρ = −4 s (1 − s) A


@pytest.mark.parametrize(
    ("advantage", "temperature"), [pytest.param(2.0, 3.0, id="A > 0"), pytest.param(-2.0, 0.5, id="A < 0")]
)
def test_sapo_by_hand(advantage, temperature):
    s = 1 / (1 + math.exp(-temperature * (1.5 - 1)))
    expected = (-4 / temperature * s * advantage, -4 * s * (1 - s) * advantage * 1.5)  # dρ / d log π = ρ
    options = {"sapo_temperature_pos": 3.0, "sapo_temperature_neg": 0.5}
    assert value_and_gradient(one_token(1.5, advantage), "sapo", options=options) == pytest.approx(expected, abs=1e-12)


def test_sapo_without_an_advantage_teaches_nothing():
    assert value_and_gradient(one_token(1.5, 0.0), "sapo") == (0, 0)


# vespo: −φ(w) A log π, φ(w) = e^λ w^k e^(−λ w)


@pytest.mark.parametrize(("k", "lam", "advantage"), [(1.5, 2.5, 2.0), (0.5, 4.0, -2.0)])
def test_vespo_by_hand(k, lam, advantage):
    phi = math.exp(lam) * 1.5**k * math.exp(-lam * 1.5)
    options = {"vespo_k_pos": 1.5, "vespo_lambda_pos": 2.5, "vespo_k_neg": 0.5, "vespo_lambda_neg": 4.0}
    found = value_and_gradient(one_token(1.5, advantage), "vespo", options=options)
    assert found == pytest.approx((phi * advantage, -phi * advantage), abs=1e-12)


def test_the_weights_of_vespo_are_those_of_the_product_of_ratios():
    logprobs_NT = tensor([[-1.0, -1.0], [-1.0, -1.0]])
    old_NT = logprobs_NT - tensor([[LN(2), LN(0.5)], [LN(2), 50.0]])
    mask_NT = torch.tensor([[True, True], [True, False]])
    sums = loss_of((logprobs_NT, old_NT, None, tensor([1.0, 1.0]), mask_NT), "vespo").sums
    # 2 · 0.5 = 1, so φ = 1 for two tokens; 2 alone: e^3 · 2^2 · e^−6
    assert sums["weight_sum"].item() == pytest.approx(1 + 1 + 4 * math.exp(-3), abs=1e-12)


@pytest.mark.parametrize("distance", [-1000.0, -30.0, 30.0, 1000.0])
def test_a_completion_far_away_has_a_finite_weight_as_in_trl(distance):
    logprobs_NT = tensor([[-1.0, -2.0, -3.0]]).requires_grad_()
    batch = (logprobs_NT, logprobs_NT.detach() - distance, None, tensor([1.0]), torch.ones(1, 3, dtype=torch.bool))
    ours, theirs = loss_of(batch, "vespo").loss, trl_loss(batch, "vespo")[0]
    assert math.isfinite(ours.item())
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


def test_the_weight_of_a_completion_has_no_gradient():
    logprobs_NT, old_NT, _, advantages_N, mask_NT = random_batch()
    weights_NT = gamma_surrogate(LossInput(logprobs_NT, old_NT, None, advantages_N, mask_NT, 0.2, 0.2), logprobs_NT)[3]
    assert weights_NT is not None
    assert not weights_NT.requires_grad


# TRL's own code as the oracle


OPTIONS = {
    "delta": [(name, {"delta": 1.21}) for name in CLIPPED],
    "temperatures": [("sapo", {"sapo_temperature_pos": 2.3, "sapo_temperature_neg": 0.7})],
    "weights": [
        ("vespo", {"vespo_k_pos": 1.1, "vespo_lambda_pos": 0.9, "vespo_k_neg": 2.2, "vespo_lambda_neg": 3.3}),
    ],
    "off-policy": [(name, {"off_policy_mask_threshold": 0.05}) for name in LOSS_TYPES],
    "top entropy": [(name, {"top_entropy_quantile": 0.3}) for name in LOSS_TYPES if name != "bnpo"],
    "entropy bonus": [(name, {"entropy_coef": 0.02}) for name in LOSS_TYPES if name != "bnpo"],
    "both": [("luspo", {"entropy_coef": 0.02, "top_entropy_quantile": 0.3, "off_policy_mask_threshold": 0.05})],
}
CASES = [
    pytest.param(loss_type, options, id=f"{name}, {loss_type}")
    for name, cases in OPTIONS.items()
    for loss_type, options in cases
]


def ours(batch, loss_type, options, entropies_NT, sampled_NT=None, **more):
    """As the trainer does: the threshold is that of all unmasked tokens, the bonus a mean over those that reach it."""
    own_N = entropies_NT.detach()[batch[4]].numpy()
    found = top_entropies(own_N, options.get("top_entropy_quantile", 1.0))
    return loss_of(
        batch,
        loss_type,
        options=options,
        entropies_NT=entropies_NT,
        entropy_threshold=found.threshold,
        entropy_normalizer=found.tokens,
        sampled_logprobs_NT=sampled_NT,
        **more,
    )


def gradients(loss, batch, entropies_NT):
    found = torch.autograd.grad(loss, [batch[0], entropies_NT], allow_unused=True)
    return [torch.zeros_like(batch[0]) if gradient is None else gradient for gradient in found]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("loss_type", "options"), CASES)
def test_options_equal_those_of_trl(loss_type, options, seed):
    batch = random_batch(seed)
    entropies_NT = random_entropies(batch, seed)
    sampled_NT = batch[1] + 0.1 * torch.randn(batch[1].shape, generator=torch.Generator().manual_seed(seed)).double()
    for beta in (0.0, 0.04):
        more = {"beta": beta, "epsilon_high": 0.1}
        expected, _ = trl_loss(
            batch, loss_type, entropies_NT=entropies_NT, sampled_NT=sampled_NT, options=options, **more
        )
        output = ours(batch, loss_type, options, entropies_NT, sampled_NT if loss_type != "bnpo" else None, **more)
        torch.testing.assert_close(output.loss, expected, atol=1e-12, rtol=0)
        for mine, theirs in zip(
            gradients(output.loss, batch, entropies_NT), gradients(expected, batch, entropies_NT), strict=True
        ):
            torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=0)
    assert abs(loss_of(batch, loss_type, **more).loss - output.loss) > 1e-6, "the option acts"


def test_the_two_temperatures_are_told_apart():
    """The control: swapped ones are something else."""
    batch = random_batch()
    options = {"sapo_temperature_pos": 2.0, "sapo_temperature_neg": 0.5}
    swapped = {"sapo_temperature_pos": 0.5, "sapo_temperature_neg": 2.0}
    assert abs(loss_of(batch, "sapo", options=swapped).loss - trl_loss(batch, "sapo", options=options)[0]) > 1e-3


# what is left out of the policy loss


def test_the_off_policy_mask_by_hand():
    """Of four completions, one goes: A < 0 and a mean distance of (0.9 + 0.3) / 2 = 0.6 > 0.5 nats."""
    logprobs_NT = tensor([[-1.0, -1.0]] * 4).requires_grad_()
    sampled_NT = tensor([[-0.1, -0.7], [-0.1, -0.7], [-0.1, -1.3], [-1.9, -1.9]])  # distances 0.6, 0.6, 0.3, −0.9
    mask_NT = torch.ones(4, 2, dtype=torch.bool)
    batch = (logprobs_NT, sampled_NT, None, tensor([-1.0, 1.0, -1.0, -1.0]), mask_NT)
    output = loss_of(batch, "dapo", epsilon=0.9, options={"off_policy_mask_threshold": 0.5})
    (gradient_NT,) = torch.autograd.grad(output.loss, logprobs_NT)
    assert (gradient_NT.abs() > 0).any(dim=1).tolist() == [False, True, True, True]
    assert output.sums["off_policy"] == 2, "tokens"
    assert "off_policy" not in loss_of(batch, "dapo").sums


def test_what_is_left_out_keeps_its_kl_and_its_place_in_the_mean():
    logprobs_NT = tensor([[-1.0], [-1.0]]).requires_grad_()
    sampled_NT, ref_NT = tensor([[-0.1], [-1.0]]), tensor([[-2.0], [-1.0]])
    mask_NT = torch.ones(2, 1, dtype=torch.bool)
    batch = (logprobs_NT, sampled_NT, ref_NT, tensor([-1.0, 1.0]), mask_NT)
    output = loss_of(batch, "grpo", beta=0.5, options={"off_policy_mask_threshold": 0.5})
    k3 = math.exp(-1) + 1 - 1
    assert output.loss.item() == pytest.approx((0 + 0.5 * k3 - 1) / 2, abs=1e-12)


def test_the_sampler_is_asked_before_the_old_policy():
    """On-policy the old policy is the policy; only the sampler can be far away."""
    logprobs_NT = tensor([[-1.0]]).requires_grad_()
    batch = (logprobs_NT, logprobs_NT.detach(), None, tensor([-1.0]), torch.tensor([[True]]))
    options = {"off_policy_mask_threshold": 0.5}
    assert loss_of(batch, "grpo", options=options).sums["off_policy"] == 0
    far = loss_of(batch, "grpo", options=options, sampled_logprobs_NT=tensor([[-0.2]]))
    assert (far.sums["off_policy"], far.loss) == (1, 0)


def test_entropies_by_hand():
    """Tokens of 0.5, 2, 1 nats, the half with the most: median 1, so two tokens; the bonus is their mean, 1.5."""
    logprobs_NT = tensor([[-1.0, -1.0, -1.0, 0.0]]).requires_grad_()
    entropies_NT = tensor([[0.5, 2.0, 1.0, 99.0]]).requires_grad_()
    mask_NT = torch.tensor([[True, True, True, False]])
    batch = (logprobs_NT, logprobs_NT.detach(), None, tensor([1.0]), mask_NT)
    output = ours(batch, "dapo", {"entropy_coef": 0.1, "top_entropy_quantile": 0.5}, entropies_NT)
    assert output.loss.item() == pytest.approx(-2 / 3 - 0.1 * 1.5, abs=1e-12)
    grads = torch.autograd.grad(output.loss, [logprobs_NT, entropies_NT])
    torch.testing.assert_close(grads[0], tensor([[0.0, -1 / 3, -1 / 3, 0.0]]))
    torch.testing.assert_close(grads[1], tensor([[0.0, -0.05, -0.05, 0.0]]))


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_micro_batches_of_options_add_up(loss_type):
    batch, entropies_NT = random_batch(), random_entropies(random_batch())
    options = {"entropy_coef": 0.02, "top_entropy_quantile": 0.3, "off_policy_mask_threshold": 0.05}
    found = top_entropies(entropies_NT.detach()[batch[4]].numpy(), 0.3)
    whole = ours(batch, loss_type, options, entropies_NT)
    parts = [
        loss_of(
            tuple(None if x is None else x[rows] for x in batch),
            loss_type,
            options=options,
            normalizer=normalizer_of(batch, loss_type),
            group_tokens_N=batch[4].view(-1, 4 * 7).sum(1).repeat_interleave(4)[rows],
            entropies_NT=entropies_NT[rows],
            entropy_threshold=found.threshold,
            entropy_normalizer=found.tokens,
        )
        for rows in (slice(0, 5), slice(5, None))
    ]
    torch.testing.assert_close(parts[0].loss + parts[1].loss, whole.loss, atol=1e-12, rtol=0)


def test_a_mean_over_groups_wants_to_know_them():
    logprobs_NT, old_NT, ref_NT, advantages_N, mask_NT = random_batch()
    given = LossInput(logprobs_NT, old_NT, ref_NT, advantages_N, mask_NT, 0.2, 0.2)
    with pytest.raises(ValueError, match="wanted the tokens of each group"):
        grpo_loss(given, LOSSES["bnpo"], normalizer=1.0)


@pytest.mark.parametrize("more", [{"options": {"entropy_coef": 0.1}}, {"entropy_threshold": 0.5}])
def test_an_option_of_entropies_without_entropies_is_refused(more):
    with pytest.raises(ValueError, match="no entropies"):
        loss_of(random_batch(), "grpo", **more)


def test_on_policy_luspo_has_the_gradient_of_trls_rloo_trainer():
    logprobs_NT, _, _, advantages_N, mask_NT = random_batch()
    batch = (logprobs_NT, logprobs_NT.detach(), None, advantages_N, mask_NT)
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs_NT, torch.zeros_like(logprobs_NT), None),
        _metrics={"eval": defaultdict(list)},
        accelerator=SimpleNamespace(gather=lambda x: x, reduce=lambda x, reduction: x),
        aux_loss_enabled=False,
        epsilon_low=0.2,
        epsilon_high=0.2,
        model=SimpleNamespace(training=False),
    )
    ids_NT = torch.zeros_like(mask_NT, dtype=torch.long)
    inputs = {"prompt_ids": ids_NT, "prompt_mask": ids_NT, "completion_ids": ids_NT, "completion_mask": mask_NT.long()}
    inputs |= {"advantages": advantages_N, "old_logps": (logprobs_NT * mask_NT).sum(1).detach()}
    theirs = torch.autograd.grad(RLOOTrainer._compute_loss(trainer, None, inputs), logprobs_NT)[0]
    mine = torch.autograd.grad(loss_of(batch, "luspo").loss, logprobs_NT)[0]
    torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=0)
    other = torch.autograd.grad(loss_of(batch, "gspo").loss, logprobs_NT)[0]
    assert (other - theirs).abs().max() > 1e-3
