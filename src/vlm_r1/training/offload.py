"""Optimizers that work on the CPU: their state and a copy of the weights that train lie in its memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vlm_r1.config.schema import TrainingSection
from vlm_r1.errors import ConfigError
from vlm_r1.models.precision import this_device

Make = Callable[[list[dict[str, Any]], TrainingSection], torch.optim.Optimizer]
"""Makes an optimizer from parameter groups and the recipe's section."""


def on_cpu(make: Make) -> Make:
    """Return a function that makes the same optimizer for copies of the parameters in the CPU's memory.

    Before a step the gradients are copied there, and leave the GPU. After it the weights are copied back. The numbers
    are those of the optimizer, computed on the CPU. What clears the gradients of a skipped step is the model's
    `zero_grad`, since the optimizer knows only its copies.
    """

    def make_on_cpu(groups: list[dict[str, Any]], section: TrainingSection) -> torch.optim.Optimizer:
        pairs = [(p, nn.Parameter(_like(p).copy_(p.detach()))) for group in groups for p in group["params"]]
        copies = {id(p): copy for p, copy in pairs}
        optimizer = make([{**group, "params": [copies[id(p)] for p in group["params"]]} for group in groups], section)
        gradients = {id(p): _like(p) for p, _ in pairs}

        def fetch(*_: Any) -> None:
            for p, copy in pairs:
                copy.grad = None if p.grad is None else gradients[id(p)].copy_(p.grad)
                p.grad = None

        @torch.no_grad()
        def bring_back(*_: Any) -> None:
            for p, copy in pairs:
                if copy.grad is not None:
                    p.copy_(copy)

        optimizer.register_step_pre_hook(fetch)
        optimizer.register_step_post_hook(bring_back)
        return optimizer

    return make_on_cpu


def check_offload(section: TrainingSection) -> None:
    """Check that there is a GPU whose memory `offload_optimizer` can spare.

    Raises:
        ConfigError: this machine computes on its CPU.
    """
    if section.offload_optimizer and this_device().type == "cpu":
        raise ConfigError(
            "training.offload_optimizer has no effect: this machine computes on its CPU, where the optimizer is "
            "already: remove it"
        )


def _like(parameter: Tensor) -> Tensor:
    """Return memory of the CPU for a parameter's numbers; page-locked if they come from a GPU, which is faster."""
    return torch.empty(parameter.shape, dtype=parameter.dtype, pin_memory=parameter.device.type == "cuda")
