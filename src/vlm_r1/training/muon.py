"""Muon with a Newton–Schulz iteration that is fast on a CPU: in float32, with matrices of one shape as a batch.

torch.optim.Muon iterates in bfloat16, one matrix after another. Processors without bfloat16 units emulate that: with
only AVX2, a 64 × 64 matrix took 2.4 ms, but 0.13 ms in float32 in a batch of twelve (docs/log.md).
"""

# pyright: standard

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

_LARGEST_BATCH = 1 << 20  # numbers in a batch; more would need memory and are not faster


class Muon(torch.optim.Muon):
    """torch.optim.Muon with Nesterov momentum and the rate of `match_rms_adamw`; same options, state and checkpoints.

    M ← μ M + (1 − μ) G;  O = NS(μ M + (1 − μ) G);  W ← (1 − η λ) W − 0.2 η √max(rows, columns) O. Sources: Jordan et
    al. 2024 (kellerjordan.github.io/posts/muon), Liu et al. 2025 (arXiv 2502.16982) for the rate.

    Args:
        params: matrices, or groups of matrices with their own options.
        lr: η, as AdamW's.
        weight_decay: λ, decoupled.
        momentum: μ.
    """

    def __init__(self, params: Any, lr: float = 1e-3, weight_decay: float = 0.0, momentum: float = 0.95) -> None:
        super().__init__(params, lr, weight_decay, momentum, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            matrices = [p for p in group["params"] if p.grad is not None]
            for batch in _batches(matrices):
                steps = torch.stack([self._momentum(p, group["momentum"]) for p in batch])
                rate = 0.2 * group["lr"] * max(steps.shape[1:]) ** 0.5
                orthogonal = orthogonalize(steps.to(_computed_in(steps)), group["ns_coefficients"], group["ns_steps"])
                for p, direction in zip(batch, orthogonal, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(direction, alpha=-rate)
        return loss

    def _momentum(self, p: Tensor, decay: float) -> Tensor:
        """Add the gradient to the momentum; returns their Nesterov sum."""
        state, grad = self.state[p], p.grad
        assert grad is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(grad)
        state["momentum_buffer"].lerp_(grad, 1 - decay)
        return grad.lerp(state["momentum_buffer"], decay)


def orthogonalize(
    matrices_NRC: Tensor, coefficients: Sequence[float] = (3.4445, -4.7750, 2.0315), steps: int = 5
) -> Tensor:
    """Return roughly U V^T of each matrix U S V^T. A singular value s, divided by the norm of all, becomes p(p(…p(s))).

    The coefficients of p(s) = a s + b s³ + c s⁵ are such that five steps bring all except tiny values to 0.7–1.2.

    Args:
        matrices_NRC: (N, rows, columns), in the type to compute in.
        coefficients: a, b, c.

    Returns:
        (N, rows, columns).
    """
    a, b, c = coefficients
    tall = matrices_NRC.shape[1] > matrices_NRC.shape[2]
    x = matrices_NRC.mT if tall else matrices_NRC
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _computed_in(steps: Tensor) -> torch.dtype:
    """Return bfloat16 on an accelerator, like torch.optim.Muon; otherwise float32 or wider."""
    return torch.promote_types(steps.dtype, torch.float32) if steps.device.type == "cpu" else torch.bfloat16


def _batches(matrices: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Batch matrices of one shape, type and device, in order; at most `_LARGEST_BATCH` numbers, or a single matrix."""
    alike: dict[Any, list[Tensor]] = {}
    for p in matrices:
        alike.setdefault((p.shape, p.dtype, p.device), []).append(p)
    for (shape, _, _), same in alike.items():
        size = max(1, _LARGEST_BATCH // max(1, shape.numel()))
        yield from (same[start : start + size] for start in range(0, len(same), size))
