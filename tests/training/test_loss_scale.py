"""The scale of the loss: what it does by itself, by hand and beside torch's GradScaler."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vlm_r1.errors import CheckpointError
from vlm_r1.training.loss_scale import GROWTH_UPDATES, LossScale


def test_it_decides_as_gradscaler_does() -> None:
    """For 6,600 updates, of which three overflow."""
    torch.manual_seed(0)
    parameter = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=0.0)
    theirs = torch.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=GROWTH_UPDATES)
    own = LossScale(2.0**20)
    scales = list[float]()
    for update in range(6600):
        overflows = update % 2500 == 7
        theirs.scale(torch.zeros(()))
        parameter.grad = torch.full((1,), torch.inf if overflows else 1.0)
        theirs.step(optimizer)
        theirs.update()
        assert own.adapt(not overflows) is overflows
        assert own.scale == theirs.get_scale()
        scales.append(own.scale)
    assert (min(scales), scales[-1]) == (2.0**19, 2.0**19), "it fell three times and grew twice"


def test_by_hand() -> None:
    """4 → 2 → 1 by two overflows; the third is not the scale's fault; 2,000 finite ones double it."""
    scale = LossScale(4.0, updates=5)
    assert [scale.adapt(finite=False) for _ in range(3)] == [True, True, False]
    assert (scale.scale, scale.updates) == (1.0, 0)
    assert not any(scale.adapt(finite=True) for _ in range(GROWTH_UPDATES - 1))
    assert (scale.scale, scale.updates) == (1.0, GROWTH_UPDATES - 1)
    scale.adapt(finite=True)
    assert (scale.scale, scale.updates) == (2.0, 0)


def test_scaling_and_unscaling_a_gradient_loses_nothing() -> None:
    torch.manual_seed(0)
    weights, scale = nn.Parameter(torch.randn(50)), LossScale()
    scale.scaled((weights**3).sum()).backward()
    scaled = weights.grad
    assert scaled is not None
    torch.testing.assert_close(scaled, 65536 * 3 * weights.detach() ** 2)
    scale.unscale([weights, nn.Parameter(torch.ones(2))])
    (plain,) = torch.autograd.grad((weights**3).sum(), weights)
    assert torch.equal(weights.grad, plain)


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(65536.0, id="a number"),
        pytest.param({"scale": 65536.0}, id="no updates"),
        pytest.param({"scale": 0.5, "updates": 1}, id="below 1"),
        pytest.param({"scale": float("nan"), "updates": 1}, id="no number"),
        pytest.param({"scale": 2.0, "updates": GROWTH_UPDATES}, id="too many updates"),
        pytest.param({"scale": 2.0, "updates": True}, id="a truth value"),
    ],
)
def test_a_state_that_is_none(state: Any) -> None:
    with pytest.raises(CheckpointError, match=r"loss_scale is .*, wanted scale and updates"):
        LossScale().load_state_dict(state)


def test_its_state() -> None:
    scale = LossScale(8.0, 3)
    other = LossScale()
    other.load_state_dict(scale.state_dict())
    assert (other.scale, other.updates) == (8.0, 3)
    other.load_state_dict(None)
    assert (other.scale, other.updates) == (8.0, 3)
