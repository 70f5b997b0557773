"""Optimizers and learning-rate schedules from the recipe."""

from __future__ import annotations

import torch
from torch import nn
from transformers import get_scheduler

from vlm_r1.config.schema import TrainingSection


def make_optimizers(model: nn.Module, section: TrainingSection) -> list[torch.optim.Optimizer]:
    """One AdamW over all trainable parameters; or Muon for hidden matrices and AdamW for what is left."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    hidden = _hidden_matrices(model) if section.optim == "muon" else []
    held = {id(p) for p in hidden}
    optimizers: list[torch.optim.Optimizer] = []
    if rest := [p for p in trainable if id(p) not in held]:
        betas = (section.adam_beta1, section.adam_beta2)
        optimizers.append(
            torch.optim.AdamW(
                rest, lr=section.learning_rate, betas=betas, weight_decay=section.weight_decay, fused=True
            )
        )
    if hidden:
        optimizers.append(
            torch.optim.Muon(
                hidden, lr=section.learning_rate, weight_decay=section.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        )
    return optimizers


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


def _hidden_matrices(model: nn.Module) -> list[torch.Tensor]:
    """Weights of linear layers, without embeddings and output heads, whose rows are tokens and not features."""
    token_tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    return [
        module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.weight.requires_grad
        and not name.endswith("lm_head")
        and id(module.weight) not in token_tables
    ]
