"""The private flash operators, and the plain fallback, against public sdpa and autograd in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from vlm_r1.policy.kernels import Gpu, _plain, _plain_backward, attend, attend_backward, flash_obstacle

TOLERANCE = 1e-12
SCALE = 0.4

Lengths = Sequence[int]


def flash(q: Tensor, k: Tensor, v: Tensor, q_lengths: Lengths, k_lengths: Lengths, causal: bool) -> Any:
    return attend(q, k, v, q_lengths, k_lengths, causal, SCALE)


def flash_backward(*tensors: Tensor, q_lengths: Lengths, k_lengths: Lengths, causal: bool) -> Any:
    return attend_backward(*tensors, q_lengths, k_lengths, causal, SCALE)


def plain(q: Tensor, k: Tensor, v: Tensor, q_lengths: Lengths, k_lengths: Lengths, causal: bool) -> Any:
    """The fallback, segment by segment, as `attend` uses it where there is no flash attention."""
    parts = zip(split(q, q_lengths), split(k, k_lengths), split(v, k_lengths), strict=True)
    return joined(_plain(*part, causal, SCALE) for part in parts)


def plain_backward(*tensors: Tensor, q_lengths: Lengths, k_lengths: Lengths, causal: bool) -> Any:
    lengths = (q_lengths, q_lengths, k_lengths, k_lengths, q_lengths, q_lengths)
    parts = zip(*(split(x, own) for x, own in zip(tensors, lengths, strict=True)), strict=True)
    return joined(_plain_backward(*part, causal, SCALE) for part in parts)


def split(x: Tensor, lengths: Lengths) -> tuple[Tensor, ...]:
    return x.split(list(lengths), 2)


def joined(results: Any) -> tuple[Tensor, ...]:
    return tuple(torch.cat(parts, 2) for parts in zip(*results, strict=True))


def random(heads: int, tokens: int, head_dim: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, heads, tokens, head_dim, generator=generator, dtype=torch.float64)


def obvious(q: Tensor, k: Tensor, v: Tensor, q_lengths: Lengths, k_lengths: Lengths, causal: bool) -> Tensor:
    """One public call for each segment; its gradient is autograd's."""
    parts = zip(split(q, q_lengths), split(k, k_lengths), split(v, k_lengths), strict=True)
    grouped = q.shape[1] != k.shape[1]
    outs = [scaled_dot_product_attention(*p, is_causal=causal, scale=SCALE, enable_gqa=grouped) for p in parts]
    return torch.cat(outs, 2)


def obvious_lse(q: Tensor, k: Tensor, causal: bool) -> Tensor:
    """Of one segment, by the definition."""
    scores = q @ k.repeat_interleave(q.shape[1] // k.shape[1], 1).mT * SCALE
    if causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), float("-inf"))
    return scores.exp().sum(-1).log()


kernel_pairs = pytest.mark.parametrize(
    ("forward", "backward"),
    [pytest.param(flash, flash_backward, id="flash"), pytest.param(plain, plain_backward, id="plain")],
)


@kernel_pairs
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (6, 1)], ids=["as many", "two share", "all share"])
@pytest.mark.parametrize(
    ("q_lengths", "k_lengths", "causal"),
    [
        pytest.param([1], [1], True, id="one token"),
        pytest.param([7], [7], True, id="causal"),
        pytest.param([7], [7], False, id="both ways"),
        pytest.param([40, 1, 3, 17], [40, 1, 3, 17], True, id="causal, ragged"),
        pytest.param([5, 12, 1], [33, 2, 70], False, id="cross, ragged"),
    ],
)
def test_equals_public_sdpa_in_values_and_gradients(forward, backward, heads, q_lengths, k_lengths, causal) -> None:
    q, k, v = (
        random(h, sum(n), 8, s) for s, (h, n) in enumerate([(heads[0], q_lengths), *[(heads[1], k_lengths)] * 2])
    )
    leaves = [x.requires_grad_() for x in (q, k, v)]
    expected = obvious(*leaves, q_lengths, k_lengths, causal)
    grad = random(*expected.shape[1:], seed=9)
    expected.backward(grad)
    with torch.no_grad():
        out, lse = forward(q, k, v, q_lengths, k_lengths, causal)
        grads = backward(grad, q, k, v, out, lse, q_lengths=q_lengths, k_lengths=k_lengths, causal=causal)
        lses = [obvious_lse(*p, causal) for p in zip(split(q, q_lengths), split(k, k_lengths), strict=True)]
    close(out, expected)
    close(lse, torch.cat(lses, 2))
    for mine, leaf in zip(grads, leaves, strict=True):
        close(mine, leaf.grad)


@kernel_pairs
@pytest.mark.parametrize("heads", [(4, 4), (4, 2)], ids=["as many", "two share"])
def test_two_sets_of_keys_merge_into_attention_over_both(forward, backward, heads) -> None:
    """What packed groups stand on: 9 queries, causal to their own 9 keys and freely to 20 keys of a prompt."""
    own, shared, dim = 9, 20, 8
    q, grad = random(heads[0], own, dim, 0), random(heads[0], own, dim, 1)
    k, v = (random(heads[1], shared + own, dim, seed) for seed in (2, 3))
    leaves = [x.requires_grad_() for x in (q, k, v)]
    mask = torch.ones(own, shared + own, dtype=torch.bool).tril(shared)
    expected = scaled_dot_product_attention(*leaves, attn_mask=mask, scale=SCALE, enable_gqa=heads[0] != heads[1])
    expected.backward(grad)

    with torch.no_grad():
        parts = [(k[:, :, :shared], v[:, :, :shared], False), (k[:, :, shared:], v[:, :, shared:], True)]
        (out_a, lse_a), (out_b, lse_b) = (forward(q, kk, vv, [own], [kk.shape[2]], causal) for kk, vv, causal in parts)
        lse = torch.logaddexp(lse_a, lse_b)
        out = out_a * (lse_a - lse).exp()[..., None] + out_b * (lse_b - lse).exp()[..., None]

        def gradients(lses: Sequence[Tensor]) -> list[Tensor]:
            pieces = [
                backward(grad, q, kk, vv, out, one, q_lengths=[own], k_lengths=[kk.shape[2]], causal=causal)
                for (kk, vv, causal), one in zip(parts, lses, strict=True)
            ]
            (dq_a, dk_a, dv_a), (dq_b, dk_b, dv_b) = pieces
            return [dq_a + dq_b, torch.cat([dk_a, dk_b], 2), torch.cat([dv_a, dv_b], 2)]

        merged, unmerged = gradients([lse, lse]), gradients([lse_a, lse_b])
    close(out, expected)
    for mine, wrong, leaf in zip(merged, unmerged, leaves, strict=True):
        close(mine, leaf.grad)
        assert float((wrong - leaf.grad).abs().max()) > 0.1, "each part's own log-sum-exp must not do"


A100, T4 = Gpu((8, 0), rocm=False), Gpu((7, 5), rocm=False)


@pytest.mark.parametrize(
    ("gpu", "dtype", "dims", "because"),
    [
        pytest.param(A100, torch.bfloat16, (128, 128), "", id="Ampere"),
        pytest.param(Gpu((9, 0), False), torch.float16, (256, 256), "", id="Hopper, the largest heads"),
        pytest.param(A100, torch.float32, (128, 128), "it computes in float32", id="float32"),
        pytest.param(T4, torch.bfloat16, (128, 128), "capability 7.5, is older than Ampere", id="Turing"),
        pytest.param(Gpu((9, 4), True), torch.bfloat16, (128, 128), "AMD", id="AMD"),
        pytest.param(A100, torch.bfloat16, (20, 20), "heads of 20 and 20 numbers", id="odd heads"),
        pytest.param(A100, torch.bfloat16, (512, 512), "heads of 512", id="large heads"),
        pytest.param(A100, torch.bfloat16, (192, 128), "heads of 192 and 128", id="values of another size"),
    ],
)
def test_where_the_kernel_of_a_gpu_cannot_serve(gpu: Gpu, dtype, dims: tuple[int, int], because: str) -> None:
    obstacle = flash_obstacle(gpu, dtype, *dims)
    assert because in obstacle
    assert bool(obstacle) == bool(because)


def test_the_fallback_rounds_once_in_bfloat16() -> None:
    """Its products are float32: scores of hundreds keep their digits, and only the results are rounded."""
    q, k, v = (random(2, 12, 8, seed).bfloat16() * factor for seed, factor in ((0, 20), (1, 20), (2, 1)))
    grad = random(2, 12, 8, 3).bfloat16()
    wide = [x.double() for x in (q, k, v)]
    out, lse = _plain(q, k, v, True, SCALE)
    expected, expected_lse = _plain(*wide, True, SCALE)
    assert (out.dtype, lse.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(out.double(), expected, atol=1e-6, rtol=2**-8)
    torch.testing.assert_close(lse.double(), expected_lse, atol=0, rtol=1e-6)
    grads = _plain_backward(grad, q, k, v, out, lse, True, SCALE)
    exact = _plain_backward(grad.double(), *wide, expected, expected_lse, True, SCALE)
    for mine, right in zip(grads, exact, strict=True):
        assert mine.dtype == torch.bfloat16
        assert float((mine.double() - right).norm() / right.norm()) < 0.02


@pytest.mark.skipif(not torch.cuda.is_available(), reason="varlen flash attention needs a GPU")
@pytest.mark.parametrize("causal", [True, False])
def test_varlen_kernels_of_a_gpu(causal: bool) -> None:
    q_lengths, k_lengths = ([40, 1, 17], [40, 1, 17] if causal else [9, 64, 2])
    q, grad = (random(4, sum(q_lengths), 64, seed) for seed in (0, 1))
    k, v = (random(2, sum(k_lengths), 64, seed) for seed in (2, 3))
    q, grad, k, v = (x.cuda().bfloat16() for x in (q, grad, k, v))
    leaves = [x.double().requires_grad_() for x in (q, k, v)]
    expected = obvious(*leaves, q_lengths, k_lengths, causal)
    expected.backward(grad.double())
    out, lse = attend(q, k, v, q_lengths, k_lengths, causal, SCALE)
    grads = attend_backward(grad, q, k, v, out, lse, q_lengths, k_lengths, causal, SCALE)
    torch.testing.assert_close(out.double(), expected, atol=0.02, rtol=0.02)
    for mine, leaf in zip(grads, leaves, strict=True):
        torch.testing.assert_close(mine.double(), leaf.grad, atol=0.05, rtol=0.05)


def close(mine: Tensor, expected: Tensor | None) -> None:
    assert expected is not None
    torch.testing.assert_close(mine, expected, atol=TOLERANCE, rtol=0)
