"""The losses by hand, against TRL's own `_compute_loss`, against autograd of the naive formula, and cut into parts."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from testing_losses import (
    MAX_COMPLETION_LENGTH,
    group_tokens,
    loss_of,
    normalizer_of,
    random_batch,
    tensor,
    trl_loss,
)
from vlm_r1.grpo.loss import LOSSES, importance_ratio, k3_kl, loss_normalizer

LOSS_TYPES = list(LOSSES)
CLIPPED = [name for name, loss in LOSSES.items() if loss.surrogate == "clipped"]
LIMITED = [*CLIPPED, "cispo"]


# By hand: completion 0 has A = 1 and two tokens with ratios 1.5 (clipped to 1.3) and 0.5; completion 1 has A = −2 and
# one token with ratio 0.5 (clipped to 0.8); its second position is padding with a huge log-probability.
LN = math.log
HAND = (
    tensor([[LN(0.75), LN(0.25)], [LN(0.2), 50.0]]).requires_grad_(),
    tensor([[LN(0.50), LN(0.50)], [LN(0.4), -9.0]]),
    tensor([[LN(0.75), LN(0.50)], [LN(0.2), 9.0]]),  # ref / policy: 1, 2, 1
    tensor([1.0, -2.0]),
    torch.tensor([[True, True], [True, False]]),
)
TOKEN_LOSSES = (-1.3, -0.5, 1.6)  # −min(1.5, 1.3), −min(0.5, 0.8), −min(−2·0.5, −2·0.8)
SEQUENCE_RATIO = math.sqrt(1.5 * 0.5)  # the geometric mean of completion 0: 0.866, within the clip
PHI_0 = math.exp(3) * 0.75**2 * math.exp(-3 * 0.75)  # k 2 and λ 3 where A > 0; ratio 1.5 · 0.5 of completion 0
PHI_1 = math.exp(2) * 0.5**3 * math.exp(-2 * 0.5)  # k 3 and λ 2 where A < 0; ratio 0.5 of completion 1
K3 = 2 - LN(2) - 1  # of the one token whose reference is twice as likely


@pytest.mark.parametrize(
    ("loss_type", "expected", "expected_kl"),
    [
        pytest.param("grpo", ((-1.3 - 0.5) / 2 + 1.6 / 1) / 2, K3 / 2 / 2, id="grpo: mean of two token means"),
        pytest.param("dapo", (-1.3 - 0.5 + 1.6) / 3, K3 / 3, id="dapo: mean over three tokens"),
        pytest.param(
            "dr_grpo", (-1.3 - 0.5 + 1.6) / (2 * 10), K3 / (2 * 10), id="dr_grpo: over two times the cap of ten"
        ),
        pytest.param("gspo", (-SEQUENCE_RATIO + 1.6) / 2, K3 / 2 / 2, id="gspo: one ratio for each completion"),
        pytest.param(
            "cispo",
            (-1.3 * LN(0.75) - 0.5 * LN(0.25) + 2 * 0.5 * LN(0.2)) / 3,
            K3 / 3,
            id="cispo: log-probabilities weighted by ratios up to 1.3, mean over three tokens",
        ),
        pytest.param("bnpo", (-1.3 - 0.5 + 1.6) / 3 / 1, K3 / 3 / 1, id="bnpo: mean over the tokens of one group"),
        pytest.param("luspo", (-2 * SEQUENCE_RATIO + 1.6) / 2, K3 / 2, id="luspo: gspo, times the length"),
        pytest.param(
            "sapo",
            (-(4 / (1 + math.exp(-0.5)) + 4 / (1 + math.exp(0.5))) / 2 + 2 * 4 / 1.05 / (1 + math.exp(1.05 * 0.5))) / 2,
            K3 / 2 / 2,
            id="sapo: sigmoids of ±0.5, at temperature 1.05 where the advantage is negative",
        ),
        pytest.param(
            "vespo",
            (-PHI_0 * (LN(0.75) + LN(0.25)) + 2 * PHI_1 * LN(0.2)) / 3,
            K3 / 3,
            id="vespo: log-probabilities weighted by phi of each completion, mean over three tokens",
        ),
    ],
)
def test_by_hand(loss_type, expected, expected_kl):
    assert loss_of(HAND, loss_type).loss.item() == pytest.approx(expected, abs=1e-12)
    assert loss_of(HAND, loss_type, beta=0.04).loss.item() == pytest.approx(expected + 0.04 * expected_kl, abs=1e-12)


def test_gradients_by_hand():
    (gradient_NT,) = torch.autograd.grad(loss_of(HAND, "grpo").loss, HAND[0])
    # token 0 is clipped: no gradient; token 1: d(−ρA)/d lp = −0.5, half of its completion, half of the batch;
    # completion 1 is clipped below with A < 0: no gradient; padding: none
    torch.testing.assert_close(gradient_NT, tensor([[0.0, -0.5 / 2 / 2], [0.0, 0.0]]))


def test_every_token_of_cispo_keeps_its_gradient():
    (gradient_NT,) = torch.autograd.grad(loss_of(HAND, "cispo").loss, HAND[0])
    # −min(ρ, 1.3) A of a mean over three tokens: capped for the first, and nothing is lost where grpo has no gradient
    torch.testing.assert_close(gradient_NT, tensor([[-1.3 / 3, -0.5 / 3], [2 * 0.5 / 3, 0.0]]))


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_cispo_counts_capped_weights(advantage):
    sums = loss_of((*HAND[:3], tensor([advantage, 1.0]), HAND[4]), "cispo").sums
    assert (sums["clipped_low"].item(), sums["clipped_high"].item()) == (0.0, 1.0)


def test_sums_by_hand():
    sums = loss_of(HAND, "grpo", beta=0.04).sums
    assert {name: value.item() for name, value in sums.items()} == pytest.approx(
        {"kl_sum": K3, "clipped_low": 1.0, "clipped_high": 1.0, "tokens": 3.0}
    )
    assert not any(value.requires_grad for value in sums.values())


def test_gspo_counts_the_tokens_of_clipped_completions():
    sums = loss_of(HAND, "gspo").sums
    assert (sums["clipped_low"].item(), sums["clipped_high"].item()) == (1.0, 0.0)


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_on_policy_the_gradient_is_minus_advantage(loss_type):
    logprobs_NT, _, _, advantages_N, mask_NT = random_batch()
    output = loss_of((logprobs_NT, logprobs_NT.detach(), None, advantages_N, mask_NT), loss_type, normalizer=1.0)
    (gradient_NT,) = torch.autograd.grad(output.loss, logprobs_NT)
    batch = (logprobs_NT, logprobs_NT, None, advantages_N, mask_NT)
    per_token = {"completion": mask_NT.sum(1, keepdim=True).clamp(min=1), "group": group_tokens(batch)[:, None]}
    expected_NT = -advantages_N[:, None] * mask_NT / per_token.get(LOSSES[loss_type].mean, 1)
    torch.testing.assert_close(gradient_NT, expected_NT)
    assert output.sums["clipped_low"] == output.sums["clipped_high"] == output.sums["kl_sum"] == 0


# TRL's own code as the oracle


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("beta", [0.0, 0.04])
@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_equal_to_trl(loss_type, corrected, beta, seed):
    batch = random_batch(seed)
    options = {"epsilon": 0.1, "epsilon_high": 0.15, "beta": beta, "corrected": corrected}
    expected, metrics = trl_loss(batch, loss_type, **options)
    output = loss_of(batch, loss_type, **options)
    torch.testing.assert_close(output.loss, expected, atol=1e-12, rtol=0)
    gradients = [torch.autograd.grad(loss, batch[0])[0] for loss in (output.loss, expected)]
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=0)
    if beta and loss_type != "bnpo":
        assert output.sums["kl_sum"] / output.sums["tokens"] == pytest.approx(metrics["kl"])
    for side in () if loss_type not in LIMITED else ("high",) if loss_type == "cispo" else ("low", "high"):
        clipped = output.sums[f"clipped_{side}"] / output.sums["tokens"]
        assert clipped > 0, "the case must exercise both clips"
        if loss_type in (
            "grpo",
            "dr_grpo",
            "dapo",
        ):  # of gspo TRL counts completions, of cispo capped tokens with A > 0
            assert clipped == pytest.approx(metrics[f"clip_ratio/{side}_mean"])
    if loss_type == "cispo":
        worse = loss_of((*batch[:3], batch[3].clamp(max=0.0), batch[4]), loss_type, **options)
        assert output.sums["clipped_high"] == worse.sums["clipped_high"]
        assert output.sums["clipped_high"] / output.sums["tokens"] > metrics["cispo_clip_ratio"] > 0


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
@pytest.mark.parametrize("on_policy", [False, True])
def test_trl_notices_a_bias_correction_of_the_kl_on_one_side_alone(loss_type, on_policy):
    """The control: on-policy the ratio is 1, so the losses are equal, and the gradients still differ."""
    logprobs_NT, old_NT, *rest = random_batch()
    batch = (logprobs_NT, logprobs_NT.detach() if on_policy else old_NT, *rest)
    expected, _ = trl_loss(batch, loss_type, beta=0.04, corrected=True)
    plain = loss_of(batch, loss_type, beta=0.04).loss
    gradients = [torch.autograd.grad(loss, logprobs_NT)[0] for loss in (plain, expected)]
    assert (gradients[0] - gradients[1]).abs().max() > 1e-5
    assert (abs(plain - expected) < 1e-12) == on_policy


@pytest.mark.parametrize("loss_type", LIMITED)
def test_trl_notices_swapped_clip_bounds(loss_type):
    batch = random_batch()
    expected, _ = trl_loss(batch, loss_type, epsilon=0.05, epsilon_high=0.3)
    swapped = loss_of(batch, loss_type, epsilon=0.3, epsilon_high=0.05)
    assert abs(swapped.loss - expected) > 1e-4


def test_the_types_differ():
    losses = [loss_of(random_batch(), loss_type).loss.item() for loss_type in LOSS_TYPES]
    assert len({round(loss, 6) for loss in losses}) == len(LOSS_TYPES)


# Gradients of the formulas written naively: one completion and one token at a time


def naive_loss(batch, loss_type, *, epsilon=0.2, epsilon_high=0.3, beta=0.0):
    logprobs_NT, old_NT, ref_NT, advantages_N, mask_NT = batch
    total = logprobs_NT.sum() * 0
    for n, mask_T in enumerate(mask_NT):
        lp_T, old_T, ref_T, advantage = logprobs_NT[n], old_NT[n], ref_NT[n], advantages_N[n]
        lp_T, old_T, ref_T = lp_T[mask_T], old_T[mask_T], ref_T[mask_T]
        if not len(lp_T):
            continue
        by_sequence = loss_type in ("gspo", "luspo")
        ratio = torch.exp((lp_T - old_T).mean()) if by_sequence else torch.exp(lp_T - old_T)
        outside = (ratio > 1 + epsilon_high) if advantage > 0 else (ratio < 1 - epsilon)
        bound = 1 + epsilon_high if advantage > 0 else 1 - epsilon
        capped = ratio.detach().clamp(max=1 + epsilon_high)
        temperature, k, lam = (1.0, 2.0, 3.0) if advantage > 0 else (1.05, 3.0, 2.0)
        w = torch.exp((lp_T - old_T).detach().sum())
        kl_T = torch.exp(ref_T - lp_T) - (ref_T - lp_T) - 1
        gain_T = {
            "cispo": capped * lp_T,
            "sapo": 4 / temperature / (1 + torch.exp(-temperature * (ratio - 1))),
            "vespo": math.exp(lam) * w**k * torch.exp(-lam * w) * lp_T,
        }.get(loss_type, torch.where(outside, torch.full_like(ratio, bound), ratio))
        loss_T = (-gain_T * advantage + beta * kl_T).expand_as(lp_T)
        if loss_type == "bnpo":  # groups of four
            loss_T = loss_T / mask_NT[n // 4 * 4 : n // 4 * 4 + 4].sum()
        total = total + (loss_T.mean() if loss_type in ("grpo", "gspo", "sapo") else loss_T.sum())
    N, tokens = len(mask_NT), mask_NT.sum()
    over = {"dr_grpo": N * MAX_COMPLETION_LENGTH, "dapo": tokens, "cispo": tokens, "vespo": tokens, "bnpo": N // 4}
    return total / over.get(loss_type, N)


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_gradient_equals_autograd_of_the_naive_formula(loss_type):
    batch = random_batch(3)
    ours, naive = loss_of(batch, loss_type, beta=0.1).loss, naive_loss(batch, loss_type, beta=0.1)
    torch.testing.assert_close(ours, naive, atol=1e-12, rtol=0)
    gradients = [torch.autograd.grad(loss, batch[0])[0] for loss in (ours, naive)]
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=0)


# Parts add up; nothing leaks from what is masked


@settings(deadline=None, max_examples=40)
@given(
    loss_type=st.sampled_from(LOSS_TYPES),
    cut=st.integers(0, 24),
    beta=st.sampled_from([0.0, 0.04]),
    seed=st.integers(0, 1000),
)
def test_micro_batches_add_up(loss_type, cut, beta, seed):
    batch = random_batch(seed)
    normalizer, tokens_N = normalizer_of(batch, loss_type), group_tokens(batch)
    whole = loss_of(batch, loss_type, beta=beta)
    parts = [
        loss_of(
            tuple(x[rows] for x in batch), loss_type, beta=beta, normalizer=normalizer, group_tokens_N=tokens_N[rows]
        )
        for rows in (slice(0, cut), slice(cut, None))
    ]
    added = parts[0].loss + parts[1].loss
    torch.testing.assert_close(added, whole.loss, atol=1e-12, rtol=0)
    gradients = [torch.autograd.grad(loss, batch[0])[0] for loss in (added, whole.loss)]
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=0)
    for name, value in whole.sums.items():
        torch.testing.assert_close(parts[0].sums[name] + parts[1].sums[name], value)


def test_a_local_normaliser_would_not_add_up():
    batch = random_batch()
    halves = [loss_of(tuple(x[rows] for x in batch), "dapo").loss / 2 for rows in (slice(0, 2), slice(2, None))]
    assert abs(halves[0] + halves[1] - loss_of(batch, "dapo").loss) > 1e-3


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
@pytest.mark.parametrize("junk", [-math.inf, math.nan, 1e30])
def test_masked_positions_may_hold_anything(loss_type, junk):
    logprobs_NT, old_NT, ref_NT, advantages_N, mask_NT = random_batch()
    clean = loss_of((logprobs_NT, old_NT, ref_NT, advantages_N, mask_NT), loss_type, beta=0.04)
    dirty_NT = logprobs_NT.detach().masked_fill(~mask_NT, junk).requires_grad_()
    filled = [x.masked_fill(~mask_NT, junk) for x in (old_NT, ref_NT)]
    dirty = loss_of((dirty_NT, *filled, advantages_N, mask_NT), loss_type, beta=0.04)
    torch.testing.assert_close(dirty.loss, clean.loss)
    (expected,) = torch.autograd.grad(clean.loss, logprobs_NT)
    (gradient_NT,) = torch.autograd.grad(dirty.loss, dirty_NT)
    torch.testing.assert_close(gradient_NT, expected)
    assert dirty.sums == clean.sums


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_nothing_unmasked_gives_zero_and_a_finite_zero_gradient(loss_type):
    logprobs_NT, old_NT, ref_NT, advantages_N, mask_NT = random_batch()
    output = loss_of((logprobs_NT, old_NT, ref_NT, advantages_N, mask_NT & False), loss_type, beta=0.04)
    (gradient_NT,) = torch.autograd.grad(output.loss, logprobs_NT)
    assert output.loss == 0
    assert torch.equal(gradient_NT, torch.zeros_like(gradient_NT))


def test_an_impossible_sampled_token_is_not_hidden():
    batch = (tensor([[-math.inf]]), tensor([[-math.inf]]), None, tensor([1.0]), torch.tensor([[True]]))
    assert loss_of(batch, "grpo").loss.isnan()


def test_a_fully_masked_completion_counts_in_the_mean_over_completions():
    # as in TRL: the loss of the other completion is halved, not kept
    logprobs_NT = tensor([[-1.0], [-1.0]])
    batch = (logprobs_NT, logprobs_NT, None, tensor([1.0, 1.0]), torch.tensor([[True], [False]]))
    assert loss_of(batch, "grpo").loss.item() == -1.0 / 2


def test_beta_without_a_reference_is_refused():
    logprobs_NT, old_NT, _, advantages_N, mask_NT = random_batch()
    with pytest.raises(ValueError, match="reference"):
        loss_of((logprobs_NT, old_NT, None, advantages_N, mask_NT), "grpo", beta=0.04)


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_an_empty_batch_has_a_normaliser(loss_type):
    assert loss_normalizer(LOSSES[loss_type], 0, 0, MAX_COMPLETION_LENGTH, groups=0) == 1.0


def test_k3_estimates_the_divergence():
    # E_p[k3] = KL(p ‖ q), exactly: over three tokens weighted by p
    p_V, q_V = tensor([0.5, 0.3, 0.2]), tensor([0.2, 0.2, 0.6])
    k3_V = k3_kl(p_V.log()[None], q_V.log()[None], torch.ones(1, 3, dtype=torch.bool))[0]
    assert (p_V * k3_V).sum().item() == pytest.approx((p_V * (p_V / q_V).log()).sum().item())
    assert (k3_V >= 0).all()


@pytest.mark.parametrize(
    ("corrected", "forward"),
    [
        pytest.param(False, True, id="plain: KL(ref to policy)"),
        pytest.param(True, False, id="corrected: KL(policy to ref)"),
    ],
)
def test_of_which_divergence_the_gradient_is(corrected, forward):
    """Over all three tokens, weighted by the policy that drew them, the gradient is exact, not an estimate.

    ∇k3 = (1 − q/p) ∇log p, so Σ p ∇k3 = Σ ∇p − Σ q ∇log p = ∇ Σ q log(q/p), for Σ ∇p = 0. With ρ, Σ p ∇(ρ k3) is
    ∇ Σ p k3, and Σ p k3 is KL(p ‖ q).
    """
    logits_V, q_V = tensor([0.3, -0.4, 1.1]).requires_grad_(), tensor([0.2, 0.2, 0.6])

    def divergences():
        p_V = logits_V.softmax(0)
        return (q_V * (q_V / p_V).log()).sum(), (p_V * (p_V / q_V).log()).sum()

    logprobs_V1 = logits_V.log_softmax(0)[:, None]  # each token is a completion of its own
    drawn_V1 = torch.ones(3, 1, dtype=torch.bool)
    grads = []
    for n in range(3):
        batch = (logprobs_V1[n : n + 1], logprobs_V1[n : n + 1].detach(), q_V.log()[n, None, None], tensor([0.0]))
        loss = loss_of((*batch, drawn_V1[n : n + 1]), "grpo", beta=1.0, normalizer=1.0, corrected=corrected).loss
        grads.append(float(logprobs_V1[n].detach().exp()) * torch.autograd.grad(loss, logits_V, retain_graph=True)[0])
    right, wrong = divergences() if forward else divergences()[::-1]
    expected_V, other_V = (torch.autograd.grad(kl, logits_V, retain_graph=True)[0] for kl in (right, wrong))
    torch.testing.assert_close(sum(grads), expected_V, atol=1e-12, rtol=0)
    assert (sum(grads) - other_V).abs().max() > 1e-3


def test_sequence_ratio_is_the_geometric_mean():
    ratio_NT = importance_ratio(*HAND[:2], HAND[4], LOSSES["gspo"])
    torch.testing.assert_close(ratio_NT, tensor([[SEQUENCE_RATIO] * 2, [0.5, 1.0]]))
