"""Optimizers and learning-rate schedules from the recipe; the gradient of all processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from transformers import get_scheduler

from vlm_r1.config.schema import TrainingSection
from vlm_r1.models.adapter import Adapter
from vlm_r1.models.parts import PARTS, part_of
from vlm_r1.training.muon import Muon


def make_optimizers(
    model: nn.Module, section: TrainingSection, adapter: Adapter | None = None
) -> list[torch.optim.Optimizer]:
    """One AdamW over all trainable parameters; or Muon for hidden matrices and AdamW for what is left.

    Each has one group for each learning rate, the language model's first.

    Args:
        adapter: says which part a parameter belongs to; wanted with `learning_rates`.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    hidden = _hidden_matrices(model) if section.optim == "muon" else set()
    optimizers: list[torch.optim.Optimizer] = []
    if rest := {name: p for name, p in trainable.items() if id(p) not in hidden}:
        betas = (section.adam_beta1, section.adam_beta2)
        groups = _by_rate(rest, section, adapter)
        optimizers.append(torch.optim.AdamW(groups, betas=betas, weight_decay=section.weight_decay, fused=True))
    if matrices := {name: p for name, p in trainable.items() if id(p) in hidden}:
        groups = _by_rate(matrices, section, adapter)
        optimizers.append(Muon(groups, weight_decay=section.weight_decay))
    return optimizers


def sum_gradients(parameters: Iterable[nn.Parameter], accelerator: Accelerator) -> None:
    """Add up the gradients of all processes; nothing to do for one process.

    A parameter that has a gradient on some processes gets it on all; one that has none anywhere keeps none, and the
    optimizer passes it over. (DistributedDataParallel would hold each gradient a second time, in its buckets, wherever
    a step takes several micro-batches.)
    """
    if accelerator.num_processes == 1:
        return
    trainable = [p for p in parameters if p.requires_grad]
    exists = torch.tensor([p.grad is not None for p in trainable], dtype=torch.int32, device=accelerator.device)
    holders: Any = accelerator.reduce(exists, "sum")
    for parameter, count in zip(trainable, holders.tolist(), strict=True):
        if count:
            own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = accelerator.reduce(own, "sum")  # type: ignore[assignment]


def _by_rate(
    parameters: Mapping[str, nn.Parameter], section: TrainingSection, adapter: Adapter | None
) -> list[dict[str, Any]]:
    if adapter is None or not section.learning_rates:
        return [{"params": list(parameters.values()), "lr": section.learning_rate}]
    groups: dict[float, list[nn.Parameter]] = {}
    for part in reversed(PARTS):
        rate = section.learning_rates.get(part, section.learning_rate)
        if own := [p for name, p in parameters.items() if part_of(name, adapter) == part]:
            groups.setdefault(rate, []).extend(own)
    return [{"params": own, "lr": rate} for rate, own in groups.items()]


def make_schedulers(
    optimizers: list[torch.optim.Optimizer], section: TrainingSection
) -> list[torch.optim.lr_scheduler.LRScheduler]:
    """The schedule of transformers over `max_steps`, one for each optimizer."""
    return [
        get_scheduler(
            section.lr_scheduler_type,
            optimizer,
            num_warmup_steps=section.warmup_steps,
            num_training_steps=section.max_steps,
        )
        for optimizer in optimizers
    ]


def _hidden_matrices(model: nn.Module) -> set[int]:
    """Ids of weights of linear layers, without embeddings and output heads, whose rows are tokens and not features."""
    token_tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    return {
        id(module.weight)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.weight.requires_grad
        and not name.endswith("lm_head")
        and id(module.weight) not in token_tables
    }
