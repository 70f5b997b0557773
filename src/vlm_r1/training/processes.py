"""The processes of a run: they are joined before anything is read, and what one finds out is the same for all."""

# pyright: standard

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from vlm_r1.errors import ConfigError, VlmR1Error
from vlm_r1.models.precision import this_device

T = TypeVar("T")


def join_processes() -> None:
    """Join the processes of a launcher; once they are joined, it does nothing.

    Raises:
        ConfigError: they could not be joined.
    """
    # without cpu, accelerate joins the processes of a launcher only on GPUs
    state = PartialState(cpu=this_device().type == "cpu")
    if state.num_processes != (launched := int(os.environ.get("WORLD_SIZE", "1"))):
        raise ConfigError(
            f"the launcher started {launched} processes, but accelerate joined {state.num_processes}: each would "
            "train alone, in the same folder. Launch with torchrun --nproc_per_node N -m vlm_r1.cli.main train RECIPE"
        )


def first_does(work: Callable[[], T]) -> T:
    """Let the first process work while the others wait; returns its result, or raises its error, in all of them.

    Args:
        work: its result is pickled if there are several processes.

    Raises:
        VlmR1Error: what `work` raised.
    """
    state, outcome = PartialState(), None
    if state.is_main_process:
        try:
            outcome = work()
        except VlmR1Error as error:
            outcome = error
    if state.num_processes > 1:
        shared = [outcome]
        broadcast_object_list(shared)
        outcome = outcome if state.is_main_process else shared[0]
    if isinstance(outcome, VlmR1Error):
        raise outcome
    return outcome  # type: ignore[return-value]
