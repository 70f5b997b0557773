"""Bytes of tensors that exist: by hand on real ones, and the same on tensors without data."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import dropout, embedding, linear, scaled_dot_product_attention, silu

from vlm_r1.planning.meter import Meter

KB = 256
"""Float32 numbers of a kilobyte."""


def test_what_exists_and_the_most_that_did() -> None:
    with Meter() as meter:
        a = torch.zeros(KB)
        b = torch.ones(KB) + a  # the ones are gone at once
        assert (meter.live, meter.peak) == (2 * 1024, 3 * 1024)
        view, same = b[: KB // 2], a.add_(1)
        assert meter.live == 2 * 1024, "a view and an operation in place take nothing"
        del a, same
        assert meter.live == 1024
        del b
        assert meter.live == 1024, "the view keeps it"
        del view
        assert (meter.live, meter.peak) == (0, 3 * 1024)


def test_restart_looks_for_the_peak_anew() -> None:
    with Meter() as meter:
        a = torch.zeros(4 * KB)
        del a
        meter.restart()
        b = torch.zeros(KB)
        assert (meter.live, meter.peak) == (1024, 1024)
        del b


def test_held_tensors_count_once() -> None:
    a, meter = torch.zeros(KB), Meter()
    meter.hold(a)
    meter.hold(a[:1])
    assert meter.live == 1024
    with meter:
        b = a.view(2, -1)
    assert meter.live == 1024
    del a, b
    assert meter.live == 0


def test_copies_of_weights_that_autocast_makes() -> None:
    """Rounded once and kept, or rounded anew each time: then gone before the sum is there."""
    weight, x = nn.Parameter(torch.zeros(KB, KB)), torch.zeros(1, KB)
    copies = {}
    for keeping in (True, False):
        meter = Meter()
        meter.hold(weight)
        with meter, torch.no_grad(), torch.autocast("cpu", torch.bfloat16, cache_enabled=keeping):
            for _ in range(2):
                linear(x, weight)
            copies[keeping] = meter.weight_copies
    assert copies == {True: 2 * KB * KB, False: 0}


def test_a_storage_can_stand_for_several() -> None:
    with Meter() as meter:
        meter.stand_for(3, looking=False)
        a = torch.zeros(KB)
        assert (meter.live, meter.peak) == (3 * 1024, 0), "nobody looks for a peak"
        meter.stand_for(1)
        b = torch.zeros(KB)
        assert (meter.live, meter.peak) == (4 * 1024, 4 * 1024)
        meter.count_once(a)
        assert meter.live == 2 * 1024
        del a, b
        assert meter.live == 0


def mlp(x: Tensor) -> Tensor:
    return silu(x @ x.mT).softmax(-1) @ x


def dropped(x: Tensor) -> Tensor:
    return dropout(x, 0.1) * 2


def attention(x: Tensor) -> Tensor:
    q = x.view(1, 2, 8, -1)
    return scaled_dot_product_attention(q, q, q, is_causal=True).flatten()


def chosen_by_a_mask(x: Tensor) -> Tensor:
    """The mask depends on integers alone, so it is computed for real."""
    mask = torch.arange(16) % 3 == 0
    out = torch.zeros_like(x)
    out[mask] = x[mask] * 2
    return out


def lengths_read_off(x: Tensor) -> Tensor:
    """Code that asks what is in an integer tensor goes on as it does with data."""
    ends = torch.tensor([3, 5, 8]).cumsum(0).tolist()
    return torch.cat([x[:end].exp() for end in ends])


def looked_up(x: Tensor) -> Tensor:
    return embedding(torch.tensor([1, 2, 3, 3]), x).cos()


@pytest.mark.parametrize("compute", [mlp, dropped, attention, chosen_by_a_mask, lengths_read_off, looked_up])
def test_without_data_the_same_forward_and_backward(compute: Callable[[Tensor], Tensor]) -> None:
    def peak(x: Tensor, fake: FakeTensorMode | None) -> tuple[int, int]:
        meter = Meter(fake)
        meter.hold(x)
        with meter:
            compute(x.requires_grad_()).sum().backward()
        return meter.peak, meter.live

    with (fake := FakeTensorMode()):
        empty = torch.empty(16, 64)
    assert peak(empty, fake) == peak(torch.randn(16, 64), None)
    assert peak(torch.randn(16, 64), None)[1] == 2 * 16 * 64 * 4, "x and its gradient"


def test_experts_products_without_data() -> None:
    """Torch knows the shapes of grouped products for bfloat16 alone."""
    with (fake := FakeTensorMode()):
        x, experts = torch.empty(6, 8), torch.empty(3, 8, 4)
    ends = torch.tensor([1, 4, 6], dtype=torch.int32)
    with Meter(fake):
        assert torch._grouped_mm(x, experts, ends).shape == (6, 4)
        assert torch._grouped_mm(x.mT, torch.empty_like(x), ends).shape == (3, 8, 8)
