"""Muon against torch.optim.Muon, and its iteration against singular values computed apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vlm_r1.training.muon import Muon, orthogonalize

SHAPES = [(6, 4), (4, 6), (6, 4), (5, 5), (6, 4), (1, 7)]


def matrices(seed: int, shapes=SHAPES, dtype=torch.float64) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)) for shape in shapes]


def take_steps(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], seeds: list[int]) -> list[Tensor]:
    """The matrices after one step for each seed, which draws the gradients."""
    for seed in seeds:
        for p, gradient in zip(parameters, matrices(seed, [tuple(p.shape) for p in parameters]), strict=True):
            p.grad = gradient.detach().to(p.dtype)
        optimizer.step()
    return [p.detach().clone() for p in parameters]


def largest(a: list[Tensor], b: list[Tensor]) -> float:
    return max(float((x.double() - y.double()).abs().max()) for x, y in zip(a, b, strict=True))


def by_torch(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, seeds: list[int], **options) -> list[Tensor]:
    """torch's own, which rounds to bfloat16 by `Tensor.bfloat16` and nothing else; here it keeps the type it has."""
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())
        theirs = matrices(0, dtype=dtype)
        settings = {"lr": 0.1, "weight_decay": 0.3, "adjust_lr_fn": "match_rms_adamw", **options}
        return take_steps(torch.optim.Muon(theirs, **settings), theirs, seeds)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_equals_torch_in_the_same_precision(monkeypatch, dtype, tolerance) -> None:
    mine = matrices(0, dtype=dtype)
    after = take_steps(Muon(mine, lr=0.1, weight_decay=0.3), mine, [1, 2, 3])
    assert largest(after, by_torch(monkeypatch, dtype, [1, 2, 3])) < tolerance
    for name, other in {"lr": 0.11, "momentum": 0.9, "weight_decay": 0.2, "adjust_lr_fn": "original"}.items():
        assert largest(after, by_torch(monkeypatch, dtype, [1, 2, 3], **{name: other})) > 1e-3, name


def test_rounds_less_than_torch(monkeypatch) -> None:
    """Against float64, a step of ours in float32 is a thousand times nearer than torch's through bfloat16."""
    mine, theirs = matrices(0, dtype=torch.float32), matrices(0, dtype=torch.float32)
    after = take_steps(Muon(mine, lr=0.1), mine, [1])
    rounded = take_steps(torch.optim.Muon(theirs, lr=0.1, weight_decay=0, adjust_lr_fn="match_rms_adamw"), theirs, [1])
    exact = by_torch(monkeypatch, torch.float64, [1], weight_decay=0.0)
    assert 1000 * largest(after, exact) < largest(rounded, exact) < 0.02


@pytest.mark.parametrize("shape", [(3, 5, 5), (2, 3, 7), (2, 7, 3), (1, 1, 4)])
def test_the_iteration_moves_singular_values_by_its_polynomial(shape) -> None:
    """U S V^T becomes U p(p(p(p(p(S / |S|))))) V^T with p(s) = 3.4445 s - 4.7750 s³ + 2.0315 s⁵."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    s = s / s.norm(dim=-1, keepdim=True)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    torch.testing.assert_close(orthogonalize(matrix), u @ torch.diag_embed(s) @ vt, atol=1e-12, rtol=0)


def test_a_matrix_in_a_batch_is_as_alone() -> None:
    shape = (7, 5)
    together, alone = matrices(0, [shape] * 4), matrices(0, [shape] * 4)
    after = take_steps(Muon(together, lr=0.1), together, [1])
    for p, gradient in zip(alone, matrices(1, [shape] * 4), strict=True):
        p.grad = gradient.detach()
        Muon([p], lr=0.1).step()
    assert largest(after, [p.detach() for p in alone]) < 1e-14


def test_no_gradient_no_update_and_a_gradient_of_zero_moves_nothing() -> None:
    still, zero, moved = parameters = matrices(0, [(4, 4)] * 3)
    before = [p.detach().clone() for p in parameters]
    zero.grad, moved.grad = torch.zeros_like(zero), torch.ones_like(moved)
    Muon(parameters, lr=0.1).step()
    assert torch.equal(still, before[0])
    assert torch.equal(zero, before[1])
    assert not torch.equal(moved, before[2])


@pytest.mark.parametrize("saved_by", ["ours", "torch's"])
def test_a_run_goes_on_from_a_saved_state(saved_by: str, monkeypatch) -> None:
    """State and groups have the layout of torch.optim.Muon, so checkpoints of either are taken up."""
    whole = matrices(0)
    expected = take_steps(Muon(whole, lr=0.1), whole, [1, 2])
    first, second = matrices(0), matrices(0)
    make = Muon if saved_by == "ours" else torch.optim.Muon
    settings = {} if saved_by == "ours" else {"weight_decay": 0, "adjust_lr_fn": "match_rms_adamw"}
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())
        saved = make(first, lr=0.1, **settings)
        take_steps(saved, first, [1])
    for p, q in zip(second, first, strict=True):
        p.data.copy_(q.data)
    resumed, forgetful = Muon(second, lr=0.1), Muon(matrices(0), lr=0.1)
    resumed.load_state_dict(saved.state_dict())
    assert saved.state_dict()["param_groups"][0].keys() == forgetful.state_dict()["param_groups"][0].keys()
    assert largest(take_steps(resumed, second, [2]), expected) < 1e-12
    third = [nn.Parameter(p.detach().clone()) for p in first]
    assert largest(take_steps(Muon(third, lr=0.1), third, [2]), expected) > 1e-3, "without its momentum"
