"""Makes optimizers and learning-rate schedules from the recipe, and sums gradients over processes."""

# pyright: standard

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from transformers import Adafactor, get_scheduler

from vlm_r1.config.model import Part
from vlm_r1.config.schema import TrainingSection
from vlm_r1.errors import ConfigError
from vlm_r1.models.adapter import Adapter
from vlm_r1.models.parts import PARTS
from vlm_r1.registry import resolve
from vlm_r1.training import bnb
from vlm_r1.training.muon import Muon
from vlm_r1.training.offload import Make, on_cpu

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
        check: raises ConfigError if it cannot be used on this machine.
        state_bytes: bytes of the state of a parameter, and whether that is an embedding; None: found by taking a step
            on shapes. Of these kinds embeddings have a state in 32 bits.
    """

    make: Callable[[ParameterGroups, TrainingSection], torch.optim.Optimizer]
    hidden_matrices: bool = False
    check: Callable[[], None] = lambda: None
    state_bytes: Callable[[nn.Parameter, bool], int] | None = None


def _adamw(groups: ParameterGroups, section: TrainingSection, fused: bool = True) -> torch.optim.Optimizer:
    betas = (section.adam_beta1, section.adam_beta2)
    return torch.optim.AdamW(groups, betas=betas, eps=section.adam_epsilon, fused=fused)


def _adafactor(groups: ParameterGroups, section: TrainingSection) -> torch.optim.Optimizer:
    return Adafactor(groups, lr=section.learning_rate, scale_parameter=False, relative_step=False)


def _sgd(groups: ParameterGroups, section: TrainingSection) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=section.learning_rate)


def _muon(groups: ParameterGroups, section: TrainingSection) -> torch.optim.Optimizer:
    return Muon(groups, weight_decay=section.weight_decay)


def _bitsandbytes(bits: int, paged: bool) -> OptimizerKind:
    return OptimizerKind(bnb.make_adamw(bits, paged), check=bnb.check_adamw(paged), state_bytes=bnb.state_bytes(bits))


OPTIMIZERS: Mapping[str, OptimizerKind] = {
    "adamw": OptimizerKind(_adamw),
    "muon": OptimizerKind(_muon, hidden_matrices=True),
    "adamw_torch_fused": OptimizerKind(_adamw),
    "adamw_torch": OptimizerKind(partial(_adamw, fused=False)),
    "adafactor": OptimizerKind(_adafactor),
    "sgd": OptimizerKind(_sgd),
    "adamw_8bit": _bitsandbytes(8, paged=False),
    "adamw_bnb_8bit": _bitsandbytes(8, paged=False),
    "paged_adamw_8bit": _bitsandbytes(8, paged=True),
    "paged_adamw_32bit": _bitsandbytes(32, paged=True),
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
    place: Callable[[Make], Make] = on_cpu if section.offload_optimizer else lambda make: make
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    hidden = _hidden_matrices(model) if kind.hidden_matrices else set()
    optimizers: list[torch.optim.Optimizer] = []
    if rest := {name: p for name, p in trainable.items() if id(p) not in hidden}:
        make = place(_adamw if kind.hidden_matrices else kind.make)
        optimizers.append(make(_by_rate_and_decay(rest, section, adapter), section))
        if kind.state_bytes is not None:
            bnb.hold_whole(optimizers[0], [p for p in rest.values() if id(p) in token_tables(model)])
    if matrices := {name: p for name, p in trainable.items() if id(p) in hidden}:
        optimizers.append(place(kind.make)(_by_rate_and_decay(matrices, section, adapter), section))
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
    """Make transformers' learning-rate schedule over `max_steps`, one for each optimizer.

    Its absolute ends (`min_lr`, `lr_end`) are those of `learning_rate`; a part with another rate ends at the same share
    of its own. transformers takes the peak from the optimizer's defaults.
    """
    for optimizer in optimizers:
        optimizer.defaults["lr"] = section.learning_rate
    return [
        get_scheduler(
            section.lr_scheduler_type,
            optimizer,
            num_warmup_steps=warmup_steps(section),
            num_training_steps=section.max_steps,
            scheduler_specific_kwargs=dict(section.lr_scheduler_kwargs),
        )
        for optimizer in optimizers
    ]


def warmup_steps(section: TrainingSection) -> int:
    """Return `warmup_steps`; a share below 1 is that of max_steps, rounded up, as in transformers' Trainer."""
    share = section.warmup_steps
    return int(share) if share >= 1 else math.ceil(Fraction(str(share)) * section.max_steps)


def check_schedule(section: TrainingSection) -> None:
    """Check that warmup and decay of the schedule fit into the steps.

    Args:
        section: its `max_steps` are resolved (`budget.with_steps`).

    Raises:
        ConfigError: they do not.
    """
    warmup, decay = warmup_steps(section), section.lr_scheduler_kwargs.get("num_decay_steps", 0)
    least = warmup + (1 if section.lr_scheduler_type == "polynomial" else int(decay) if decay else 0)
    if least > section.max_steps and section.lr_scheduler_type in ("polynomial", "warmup_stable_decay"):
        raise ConfigError(
            f"training.lr_scheduler_type {section.lr_scheduler_type}: {warmup} steps of warmup and {least - warmup} of "
            f"decay are more than the {section.max_steps} steps of the run: lower warmup_steps"
            + (" or num_decay_steps" if decay else "")
        )


def token_tables(model: nn.Module) -> set[int]:
    """Return the ids of the weights of embeddings, an output head that is tied to one included."""
    return {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}


def _hidden_matrices(model: nn.Module) -> set[int]:
    """Return the ids of weights of linear layers, without embeddings and output heads, whose rows are tokens."""
    tables = token_tables(model)
    return {
        id(module.weight)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.weight.requires_grad
        and not name.endswith("lm_head")
        and id(module.weight) not in tables
    }
