"""Makes optimizers and learning-rate schedules from the recipe, and sums gradients over processes."""

# pyright: standard

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from transformers import get_scheduler

from vlm_r1.config.model import Part
from vlm_r1.config.schema import TrainingSection
from vlm_r1.errors import ConfigError
from vlm_r1.models.adapter import Adapter
from vlm_r1.models.parts import PARTS
from vlm_r1.registry import resolve
from vlm_r1.training.muon import Muon

BUCKET = 1 << 25
"""How many numbers of gradients are summed over the processes at once: 128 MiB in float32."""


ParameterGroups = list[dict[str, Any]]
"""Parameter groups of torch's optimizers: "params" with one "lr" and one "weight_decay"."""


@dataclass(frozen=True)
class OptimizerKind:
    """A kind of optimizer.

    Attributes:
        make: makes the optimizer from parameter groups and the recipe's section.
        hidden_matrices: it optimizes only weights of hidden linear layers; AdamW optimizes all other parameters.
    """

    make: Callable[[ParameterGroups, TrainingSection], torch.optim.Optimizer]
    hidden_matrices: bool = False


def _adamw(groups: ParameterGroups, section: TrainingSection) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, betas=(section.adam_beta1, section.adam_beta2), fused=True)


def _muon(groups: ParameterGroups, section: TrainingSection) -> torch.optim.Optimizer:
    return Muon(groups, weight_decay=section.weight_decay)


OPTIMIZERS: Mapping[str, OptimizerKind] = {
    "adamw": OptimizerKind(_adamw),
    "muon": OptimizerKind(_muon, hidden_matrices=True),
}


def get_optimizer(name: str) -> OptimizerKind:
    """Return the kind of this name in `OPTIMIZERS`, or of the class or function that `package.module:Name` names.

    Raises:
        ConfigError: the name is unknown or cannot be imported. (`make` raises it if the result is no torch optimizer.)
    """
    found: Any = resolve("optim", name, OPTIMIZERS)
    if isinstance(found, OptimizerKind):
        return found

    def make(groups: ParameterGroups, _: TrainingSection) -> torch.optim.Optimizer:
        optimizer = found(groups) if callable(found) else found
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise ConfigError(
                f'training.optim "{name}" made {optimizer!r:.100}; wanted a class of torch optimizers, or a function '
                "that makes one from parameter groups (docs/add_an_objective.md)"
            )
        given, taken = ({id(p) for group in own for p in group["params"]} for own in (groups, optimizer.param_groups))
        if given != taken:
            raise ConfigError(
                f'training.optim "{name}" takes {len(taken)} of the {len(given)} parameters that train; wanted all'
            )
        return optimizer

    return OptimizerKind(make)


def make_optimizers(
    model: nn.Module, section: TrainingSection, adapter: Adapter | None = None
) -> list[torch.optim.Optimizer]:
    """Make the recipe's optimizer for all trainable parameters, or Muon for hidden matrices and AdamW for the others.

    Each has one group for each learning rate, the language model's first. Norms and biases do not decay, as in
    transformers' Trainer.

    Args:
        adapter: knows the part of each parameter; needed with `learning_rates`.

    Raises:
        ConfigError: `optim` does not name an optimizer.
    """
    kind = get_optimizer(section.optim)
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    hidden = _hidden_matrices(model) if kind.hidden_matrices else set()
    optimizers: list[torch.optim.Optimizer] = []
    if rest := {name: p for name, p in trainable.items() if id(p) not in hidden}:
        make = _adamw if kind.hidden_matrices else kind.make
        optimizers.append(make(_by_rate_and_decay(rest, section, adapter), section))
    if matrices := {name: p for name, p in trainable.items() if id(p) in hidden}:
        optimizers.append(kind.make(_by_rate_and_decay(matrices, section, adapter), section))
    return optimizers


def sum_gradients(parameters: Iterable[nn.Parameter], accelerator: Accelerator) -> None:
    """Sum the gradients of all processes, in place.

    A parameter that has a gradient on some process gets the sum on all. One without any gradient keeps none, and the
    optimizer skips it. (DistributedDataParallel would hold each gradient a second time, in its buckets, if a step takes
    several micro-batches.)
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
    """Cut parameters into runs of one type with at most `numbers` numbers. A larger parameter is a run of its own.

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
    """Make transformers' learning-rate schedule over `max_steps`, one for each optimizer."""
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
    """Return the ids of weights of linear layers, without embeddings and output heads, whose rows are tokens."""
    token_tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    return {
        id(module.weight)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.weight.requires_grad
        and not name.endswith("lm_head")
        and id(module.weight) not in token_tables
    }
