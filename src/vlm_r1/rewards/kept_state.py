"""Puts back what functions from outside change in the process: torch's modes, seeds, the current folder and the like.

Only what can disturb a run is looked at. torch and numpy are not imported for this: what is not loaded has no state.
"""

from __future__ import annotations

import logging
import operator
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, NamedTuple

_log = logging.getLogger(__name__)


class Kept(NamedTuple):
    """One state of the process.

    Attributes:
        what: its name in a message.
        read: returns it.
        write: sets it.
        same: compares two values.
        is_chance: whether it is a generator of random numbers.
    """

    what: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    same: Callable[[Any, Any], bool] = operator.eq
    is_chance: bool = False


@contextmanager
def kept_state(name: str) -> Generator[None]:
    """Put back, at the end, what a reward has changed; each change is reported once, as a warning of `logging`.

    Random numbers are two streams: the run's own generators stand still, and rewards go on where rewards stopped.

    Args:
        name: of the reward.
    """
    states = _states(*_loaded())
    before = [state.read() for state in states]
    for state in states:
        if state.what in _CHANCE:
            state.write(_CHANCE[state.what])
    at_start = [_CHANCE.get(state.what, old) for state, old in zip(states, before, strict=True)]
    try:
        yield
    finally:
        for state, old, found in zip(states, before, at_start, strict=True):
            _put_back(name, state, old, found)


def _put_back(name: str, state: Kept, old: Any, found: Any) -> None:
    """Set a state to its old value; report a change if it is not as the reward found it."""
    now = state.read()
    if not state.same(found, now):
        _report(name, state.what)
        if state.is_chance:
            _CHANCE[state.what] = now
    if not state.same(old, now):
        state.write(old)


def follow_gpu() -> Callable[[], None]:
    """Return a function that makes this thread's current GPU the one of the thread that calls it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return lambda: None
    return partial(torch.cuda.set_device, torch.cuda.current_device())


_CHANCE: dict[str, Any] = {}
"""The states of the generators of random numbers as the last reward left them."""


@cache
def _report(name: str, what: str) -> None:
    _log.warning('reward "%s" changes %s; it is put back after each call', name, what)


def _loaded() -> tuple[bool, bool, bool, bool]:
    """Return whether torch and numpy are loaded, whether there is a GPU in use, and whether this is the main thread."""
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and torch.cuda.is_initialized()
    return torch is not None, "numpy" in sys.modules, on_gpu, threading.current_thread() is threading.main_thread()


@cache
def _states(with_torch: bool, with_numpy: bool, on_gpu: bool, in_main: bool) -> list[Kept]:
    states = [
        Kept("the current folder (os.chdir)", _folder, _change_folder),
        Kept("the random numbers of Python", random.getstate, random.setstate, is_chance=True),
    ]
    if in_main:
        names = [name for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)]
        states += [_handler(name) for name in names]
        states.append(Kept("the alarm (signal.alarm)", _alarm_is_set, _unset_alarm))
    if with_numpy:
        import numpy as np

        states.append(Kept("the random numbers of numpy", np.random.get_state, np.random.set_state, _same_numpy, True))
    return states + (_torch_states(on_gpu) if with_torch else [])


def _torch_states(on_gpu: bool) -> list[Kept]:
    import torch

    states = [
        Kept("torch's inference mode", torch.is_inference_mode_enabled, _set_inference_mode),
        Kept("whether torch records gradients", torch.is_grad_enabled, torch.set_grad_enabled),
        Kept("the number of torch's threads", torch.get_num_threads, torch.set_num_threads),
        Kept("torch's default type", torch.get_default_dtype, torch.set_default_dtype),
        Kept("torch's default device", torch.get_default_device, _set_default_device),
        Kept("whether torch is deterministic", _determinism, _set_determinism),
        *(
            Kept(
                f"torch's autocast on {device}",
                partial(torch.is_autocast_enabled, device),
                partial(torch.set_autocast_enabled, device),
            )
            for device in ("cpu", *(("cuda",) if on_gpu else ()))
        ),
        Kept("the random numbers of torch", torch.get_rng_state, torch.set_rng_state, torch.equal, True),
    ]
    if on_gpu:
        states += [
            Kept("the current GPU", torch.cuda.current_device, torch.cuda.set_device),
            Kept(
                "the random numbers of the GPU", torch.cuda.get_rng_state, torch.cuda.set_rng_state, torch.equal, True
            ),
        ]
    return states


def _handler(name: str) -> Kept:
    number = getattr(signal, name)

    def write(handler: Any) -> None:
        if handler is not None:  # None: it was not set by Python, and cannot be set again
            signal.signal(number, handler)

    return Kept(f"the handler of {name}", partial(signal.getsignal, number), write)


def _alarm_is_set() -> bool:
    return signal.getitimer(signal.ITIMER_REAL)[0] > 0


def _unset_alarm(was_set: bool) -> None:
    if not was_set:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _folder() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # somebody deleted it
        return None


def _same_numpy(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return a[2:] == b[2:] and bool((a[1] == b[1]).all())


def _set_default_device(device: Any) -> None:
    import torch

    torch.set_default_device(None if device.type == "cpu" else device)


def _determinism() -> tuple[bool, bool]:
    import torch

    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_determinism(state: tuple[bool, bool]) -> None:
    import torch

    torch.use_deterministic_algorithms(state[0], warn_only=state[1])


def _set_inference_mode(mode: bool) -> None:
    import torch

    context = torch.inference_mode(mode)
    context.__enter__()
    _HELD.append(context)


_HELD: list[Any] = []
"""Modes that were entered to leave those in which a reward left torch; one is left when its object goes."""


def _change_folder(folder: str | None) -> None:
    if folder is not None:
        os.chdir(folder)
