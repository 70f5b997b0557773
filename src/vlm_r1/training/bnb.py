"""AdamW of bitsandbytes: its state in 8 bits, or paged out of a GPU's memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from vlm_r1.config.schema import TrainingSection
from vlm_r1.errors import ConfigError
from vlm_r1.models.precision import this_device

_BLOCK = 256
"""Numbers that share a scale of 32 bits."""

_SMALL = 4096
"""Parameters with fewer numbers keep a state of 32 bits."""


def make_adamw(bits: int, paged: bool) -> Callable[[list[dict[str, Any]], TrainingSection], torch.optim.Optimizer]:
    """Return a function that makes bitsandbytes' AdamW from parameter groups and the recipe's section.

    Args:
        bits: 8 or 32, of the state. 8: in blocks of 256 numbers that share a scale (Dettmers et al., arXiv 2110.02861).
        paged: the state lies in CUDA's unified memory, which moves to the CPU's when the GPU's is full.
    """

    def make(groups: list[dict[str, Any]], section: TrainingSection) -> torch.optim.Optimizer:
        kind: Any = import_module("bitsandbytes.optim").AdamW
        betas = (section.adam_beta1, section.adam_beta2)
        return kind(
            groups, lr=section.learning_rate, betas=betas, eps=section.adam_epsilon, optim_bits=bits, is_paged=paged
        )

    return make


def check_adamw(paged: bool) -> Callable[[], None]:
    """Return a function that checks whether bitsandbytes' AdamW can be used here.

    It raises ConfigError if bitsandbytes is missing, or if there is no GPU to page out of.
    """

    def check() -> None:
        if find_spec("bitsandbytes") is None:
            raise ConfigError("training.optim: bitsandbytes is not installed: pip install 'bitsandbytes>=0.46'")
        if paged and this_device().type == "cpu":
            raise ConfigError(
                "training.optim: a paged optimizer moves its state out of a GPU, but this machine computes on its CPU: "
                "use adamw_8bit or adamw"
            )

    return check


def hold_whole(optimizer: Any, tables: Sequence[nn.Parameter]) -> None:
    """Keep the state of embeddings in 32 bits, as transformers' Trainer does: few of their rows have a gradient."""
    own: Any = copy(optimizer.mng)  # not the global one, which would keep ids of old models
    own.initialize()
    optimizer.mng = own
    own.override_config(list(tables), "optim_bits", 32)


def state_bytes(bits: int) -> Callable[[nn.Parameter, bool], int]:
    """Return a function that counts the bytes of the state of a parameter; its second argument: it is an embedding."""

    def count(parameter: nn.Parameter, table: bool) -> int:
        n = parameter.numel()
        if bits == 32 or table or n < _SMALL:
            return 2 * 4 * n
        return 2 * (n + 4 * -(-n // _BLOCK))

    return count
