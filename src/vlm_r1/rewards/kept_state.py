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

from vlm_r1.config.secrets import masked
from vlm_r1.rewards.kept_output import kept_output

_log = logging.getLogger(__name__)


class Kept(NamedTuple):
    """One state of the process.

    Attributes:
        what: its name in a message.
        read: returns it.
        write: sets it.
        same: compares two values.
        goes_on: whether rewards keep a state of their own, which each finds as the last one left it: random numbers,
            and the environment, which packages read again that wrote it when they were imported.
    """

    what: str
    read: Callable[[], Any]
    write: Callable[[Any], object]
    same: Callable[[Any, Any], bool] = operator.eq
    goes_on: bool = False


@contextmanager
def kept_state(name: str) -> Generator[None]:
    """Put back, at the end, what a reward has changed; each change is reported once, as a warning of `logging`.

    Random numbers are two streams: the run's own generators stand still, and rewards go on where rewards stopped. So it
    is with the environment. Standard output and error stay open, whatever a reward does to them.

    Args:
        name: of the reward.
    """
    states = _states(*_loaded())
    before = [state.read() for state in states]
    for state in states:
        if state.what in _THEIRS:
            state.write(_THEIRS[state.what])
    at_start = [_THEIRS.get(state.what, old) for state, old in zip(states, before, strict=True)]
    try:
        with kept_output() as is_changed:
            yield
        if is_changed():
            _report(name, "standard output or error")
    finally:
        for state, old, found in zip(states, before, at_start, strict=True):
            _put_back(name, state, old, found)


def _put_back(name: str, state: Kept, old: Any, found: Any) -> None:
    """Set a state to its old value; report a change if it is not as the reward found it."""
    now = state.read()
    if not state.same(found, now):
        _report(name, state.what)
        if state.goes_on:
            _THEIRS[state.what] = now
    if not state.same(old, now):
        state.write(old)


def follow_gpu() -> Callable[[], None]:
    """Return a function that makes this thread's current GPU the one of the thread that calls it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return lambda: None
    return partial(torch.cuda.set_device, torch.cuda.current_device())


_THEIRS: dict[str, Any] = {}
"""The states of rewards' own as the last reward left them."""


@cache
def _report(name: str, what: str) -> None:
    _log.warning('reward "%s" changes %s; it is put back after each call', masked(name), what)


def _loaded() -> tuple[bool, bool, bool, bool]:
    """Return whether torch and numpy are loaded, whether there is a GPU in use, and whether this is the main thread."""
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and torch.cuda.is_initialized()
    return torch is not None, "numpy" in sys.modules, on_gpu, threading.current_thread() is threading.main_thread()


@cache
def _states(with_torch: bool, with_numpy: bool, on_gpu: bool, in_main: bool) -> list[Kept]:
    states = [
        Kept("the current folder (os.chdir)", _folder, _change_folder),
        Kept("the environment (os.environ)", lambda: dict(os.environ), _set_environment, goes_on=True),
        Kept("the mask of new files (os.umask)", _umask, os.umask),
        Kept("the random numbers of Python", random.getstate, random.setstate, goes_on=True),
    ]
    if in_main:
        states += _states_of_signals()
    if with_numpy:
        import numpy as np

        states.append(
            Kept("the random numbers of numpy", np.random.get_state, np.random.set_state, _same_numpy, goes_on=True)
        )
    if with_torch:
        from vlm_r1.rewards.kept_torch import torch_states

        states += [Kept(*fields) for fields in torch_states(on_gpu)]
    return states


def _states_of_signals() -> list[Kept]:
    """The states that only the main thread may change."""
    names = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGPIPE")
    states = [_handler(name) for name in names if hasattr(signal, name)]
    for name in ("ITIMER_REAL", "ITIMER_PROF", "ITIMER_VIRTUAL"):
        timer = getattr(signal, name)
        states.append(Kept(f"the alarm {name}", partial(_alarm_is_set, timer), partial(_unset_alarm, timer)))
    states.append(
        Kept("which signals wait (pthread_sigmask)", _mask, partial(signal.pthread_sigmask, signal.SIG_SETMASK))
    )
    states.append(Kept("where signals are noted (set_wakeup_fd)", _wakeup_fd, _set_wakeup_fd))
    return states


def _handler(name: str) -> Kept:
    number = getattr(signal, name)

    def write(handler: Any) -> None:
        if handler is not None:  # None: it was not set by Python, and cannot be set again
            signal.signal(number, handler)

    return Kept(f"the handler of {name}", partial(signal.getsignal, number), write)


def _alarm_is_set(timer: int) -> bool:
    return signal.getitimer(timer)[0] > 0


def _unset_alarm(timer: int, was_set: bool) -> None:
    if not was_set:
        signal.setitimer(timer, 0)


def _mask() -> set[Any]:
    return signal.pthread_sigmask(signal.SIG_BLOCK, ())


def _wakeup_fd() -> int:
    descriptor = signal.set_wakeup_fd(-1)
    _set_wakeup_fd(descriptor)
    return descriptor


def _set_wakeup_fd(descriptor: int) -> None:
    signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)


def _umask() -> int:
    mask = os.umask(0o22)
    os.umask(mask)
    return mask


def _set_environment(wanted: dict[str, str]) -> None:
    for name in [name for name in os.environ if name not in wanted]:
        del os.environ[name]
    os.environ.update({name: value for name, value in wanted.items() if os.environ.get(name) != value})


def _folder() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # somebody deleted it
        return None


def _same_numpy(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return a[2:] == b[2:] and bool((a[1] == b[1]).all())


def _change_folder(folder: str | None) -> None:
    if folder is not None:
        os.chdir(folder)
