"""The processes of a run: they are joined before anything is read, and what one finds out is the same for all."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist
from accelerate import PartialState

from vlm_r1.errors import ConfigError, VlmR1Error
from vlm_r1.models.precision import this_device
from vlm_r1.training.stopping import n_launched

T = TypeVar("T")

LONGEST_WAIT = timedelta(minutes=30)
"""How long a process waits for the others, e.g. while the first one writes a checkpoint; then it ends."""


def join_processes() -> None:
    """Join the processes of a launcher; once they are joined, it does nothing.

    Raises:
        ConfigError: they could not be joined.
    """
    # without cpu, accelerate joins the processes of a launcher only on GPUs
    state: Any = PartialState(cpu=this_device().type == "cpu", timeout=LONGEST_WAIT)
    _check_that_launched(state.num_processes)
    if state.num_processes != (launched := n_launched()):
        raise ConfigError(
            f"the launcher started {launched} processes, but accelerate joined {state.num_processes}: each would "
            "train alone, in the same folder. Launch with torchrun --nproc_per_node N -m vlm_r1.cli.main train RECIPE"
        )


def leave_processes() -> None:
    """Take leave of the other processes, at the end of the program; the processes cannot be joined again."""
    state: Any = PartialState()
    state.destroy_process_group()


def first_does(work: Callable[[], T]) -> T:
    """Let the first process work while the others wait; returns its result, or raises its error, in all of them.

    Args:
        work: its result is pickled if there are several processes.

    Raises:
        VlmR1Error: what `work` raised.
    """
    state: Any = PartialState()
    outcome: Any = None
    if state.is_main_process:
        try:
            outcome = work()
        except VlmR1Error as error:
            outcome = error
    if state.num_processes > 1:
        shared = [outcome]
        dist.broadcast_object_list(shared)  # pyright: ignore[reportUnknownMemberType]
        outcome = outcome if state.is_main_process else shared[0]
    if isinstance(outcome, VlmR1Error):
        raise as_agreed(outcome)
    return outcome


def all_do(work: Callable[[], T]) -> T:
    """Let every process work; returns its own result. If some fail, all raise the first one's error.

    Raises:
        VlmR1Error: what `work` raised, in the first process in which it failed.
    """
    state: Any = PartialState()
    outcome: Any = None
    own: VlmR1Error | None = None
    try:
        outcome = work()
    except VlmR1Error as error:
        own = error
    errors: list[VlmR1Error | None] = [own]
    if state.num_processes > 1:
        errors *= state.num_processes
        dist.all_gather_object(errors, own)  # pyright: ignore[reportUnknownMemberType]
    failed = [rank for rank, error in enumerate(errors) if error is not None]
    if failed:
        first = own if failed[0] == state.process_index else errors[failed[0]]
        assert first is not None
        raise as_agreed(first, failed[0] if len(failed) < state.num_processes else None)
    return outcome


E = TypeVar("E", bound=VlmR1Error)


def as_agreed(error: E, process: int | None = None) -> E:
    """Mark an error that all processes raise, so that one of them tells it.

    Args:
        process: number of the process in which it came up; None: in all.
    """
    error.agreed, error.process = True, process
    return error


def _check_that_launched(processes: int) -> None:
    """Refuse to train alone where `accelerate launch` was asked for several processes but started one.

    Without --multi_gpu, as with --cpu, it only names the address of the first process, for a launcher such as mpirun.

    Raises:
        ConfigError: so it is.
    """
    accelerate_prepared = "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_PORT" in os.environ
    if processes == 1 and accelerate_prepared and "WORLD_SIZE" not in os.environ:
        raise ConfigError(
            "accelerate launch was asked for several processes (MASTER_PORT is set), but started only this one, as it "
            "does with --cpu and without --multi_gpu. Launch with torchrun --nproc_per_node N -m vlm_r1.cli.main train "
            "RECIPE; or for one process unset MASTER_PORT and say --num_processes 1"
        )
