"""Optimizers and learning-rate schedules from the recipe; the gradient of all processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from transformers import get_scheduler

from vlm_r1.config.model import Part
from vlm_r1.config.schema import TrainingSection
from vlm_r1.models.adapter import Adapter
from vlm_r1.models.parts import PARTS
from vlm_r1.training.muon import Muon

BUCKET = 1 << 25
"""Numbers of gradients that are summed over the processes at once: 128 MiB in float32."""


def make_optimizers(
    model: nn.Module, section: TrainingSection, adapter: Adapter | None = None
) -> list[torch.optim.Optimizer]:
    """One AdamW over all trainable parameters; or Muon for hidden matrices and AdamW for what is left.

    Each has one group for each learning rate, the language model's first. Norms and biases do not decay, as in
    transformers' Trainer.

    Args:
        adapter: says which part a parameter belongs to; wanted with `learning_rates`.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    hidden = _hidden_matrices(model) if section.optim == "muon" else set()
    optimizers: list[torch.optim.Optimizer] = []
    if rest := {name: p for name, p in trainable.items() if id(p) not in hidden}:
        betas = (section.adam_beta1, section.adam_beta2)
        groups = _by_rate_and_decay(rest, section, adapter)
        optimizers.append(torch.optim.AdamW(groups, betas=betas, fused=True))
    if matrices := {name: p for name, p in trainable.items() if id(p) in hidden}:
        groups = _by_rate_and_decay(matrices, section, adapter)
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
    holders = torch.tensor([p.grad is not None for p in trainable], dtype=torch.int32, device=accelerator.device)
    torch.distributed.all_reduce(holders)
    shared = [p for p, count in zip(trainable, holders.tolist(), strict=True) if count]
    for bucket in buckets(shared):
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        for parameter, gradient, summed in zip(
            bucket, gradients, flat.split([g.numel() for g in gradients]), strict=True
        ):
            parameter.grad = gradient.copy_(summed.view_as(gradient))


def buckets(parameters: Iterable[nn.Parameter], numbers: int = BUCKET) -> Iterator[list[nn.Parameter]]:
    """Cut into runs of one type and at most so many numbers, to be sent at once; a larger one is alone.

    >>> [[len(p) for p in own] for own in buckets([nn.Parameter(torch.ones(n)) for n in (2, 3, 9, 1, 1)], numbers=5)]
    [[2, 3], [9], [1, 1]]
    """
    own: list[nn.Parameter] = []
    room = numbers
    for parameter in parameters:
        if own and (own[0].dtype != parameter.dtype or room < parameter.numel()):
            yield own
            own, room = [], numbers
        own.append(parameter)
        room -= parameter.numel()
    if own:
        yield own


def _by_rate_and_decay(
    parameters: Mapping[str, nn.Parameter], section: TrainingSection, adapter: Adapter | None
) -> list[dict[str, Any]]:
    rates = dict.fromkeys(parameters, section.learning_rate)
    if adapter is not None and section.learning_rates:
        part_by_name: dict[str, Part] = {name: adapter.part_of(name) for name in parameters}
        in_order = sorted(part_by_name.items(), key=lambda item: PARTS.index(item[1]), reverse=True)
        rates = {name: section.learning_rates.get(part, section.learning_rate) for name, part in in_order}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, rate in rates.items():
        decay = section.weight_decay if parameters[name].ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameters[name])
    return [{"params": own, "lr": rate, "weight_decay": decay} for (rate, decay), own in groups.items()]


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
