"""Calls somebody's function under guard: its time is limited, and an end of the process inside it does not go unsaid.

The function runs in the caller's thread, because functions from outside may need it: limits by signals, as math-verify
has them, work in the main thread only; torch keeps the current GPU and other state for each thread; sqlite refuses
other threads. A process (`watcher.py`) measures the time. When it is up, the watcher's signal raises `TimeUpError` in
the main thread, which interrupts Python code, sleeping, locks, sockets and regular expressions. A function that still
does not end is killed with its process. A call in another thread cannot be interrupted, so it is killed at once.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from traceback import FrameSummary
from types import FrameType
from typing import Any, NoReturn, TypeVar

from vlm_r1.config.schema import REWARD_TIMEOUT_S
from vlm_r1.rewards.helper import Helper
from vlm_r1.rewards.watcher import GRACE_S, SIGNAL

T = TypeVar("T")

_GRACE_AFTER_SUCCESS_S = 20.0  # a thread may still send something away
_LONGEST = 1000  # characters of a function's name and record


class TimeUpError(BaseException):
    """The function has had its time. It is no `Exception`, so that the function does not catch it by accident.

    Attributes:
        awaited: where an async function waits, outermost first.
    """

    awaited: Sequence[FrameSummary] = ()


class TimeLimit:
    """How long each reward may run for one batch of completions, and how long it has run."""

    def __init__(self, limit_s: float = REWARD_TIMEOUT_S) -> None:
        self.limit_s = limit_s
        self._spent_s: dict[str, float] = {}

    @contextmanager
    def running(self, name: str) -> Generator[float]:
        """Measure a call of a reward; yields the seconds that it has left."""
        start = time.monotonic()
        try:
            yield max(self.limit_s - self._spent_s.get(name, 0.0), 0.001)
        finally:
            self._spent_s[name] = self._spent_s.get(name, 0.0) + time.monotonic() - start


def call_guarded(function: Callable[[], T], what: str, limit_s: float) -> T:
    """Call a function. What it raises is passed on, KeyboardInterrupt and SystemExit too; in a forked child it ends.

    Args:
        what: the function and the record, for the message of the watcher.
        limit_s: seconds that it may take.

    Raises:
        TimeUpError: it took longer.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and _MAIN.is_called:  # a reward that calls another one
        return function()
    if in_main:
        signal.signal(SIGNAL, _interrupt)  # it stays: the signal may come when the call has just ended
    process, number = os.getpid(), _WATCHER.begin(what, limit_s, in_main)
    try:
        return _call_in_main(function) if in_main else function()
    finally:
        if os.getpid() != process:
            _end_child(what)
        _WATCHER.end(number)


def is_ctrl_c(error: BaseException) -> bool:
    """Return whether an error is a KeyboardInterrupt that the user caused, not the function."""
    return isinstance(error, KeyboardInterrupt) and _MAIN.is_interrupted


@cache
def bound_the_end() -> ThreadPoolExecutor:
    """See to it that the process ends when its program has, even if a function left threads that never end.

    The interpreter waits for all threads that are no daemons. It first tells those of executors to stop, so that the
    end of such a thread shows that the wait has begun. The status is then that of the program (`note_status`).

    Returns:
        The executor; as long as somebody holds it, its thread waits.
    """
    executor = ThreadPoolExecutor(1, "end of the program")
    last = executor.submit(threading.current_thread).result()
    threading.Thread(target=_end_without_threads, args=(last,), daemon=True).start()
    return executor


def note_status(status: int) -> None:
    """Note with which status the program will end, in case that `bound_the_end` has to end it."""
    _MAIN.status = status


class _Watcher(Helper):
    """The helper that watches calls."""

    def __init__(self) -> None:
        super().__init__(Path(__file__).with_name("watcher.py"))
        self._numbers = itertools.count()

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        launcher = os.getppid() if "TORCHELASTIC_RUN_ID" in os.environ else 0
        return super().start(*arguments, str(os.getpid()), str(launcher))

    def close(self) -> None:
        """Do not wait for its end: it watches until this process has ended."""
        self.forget()

    def begin(self, what: str, limit_s: float, interrupts: bool) -> int:
        """Tell that a call begins; returns what `end` wants."""
        number = next(self._numbers)
        self._write([number, what[:_LONGEST], limit_s, interrupts])
        return number

    def end(self, number: int) -> None:
        """Tell that a call has ended."""
        with contextlib.suppress(OSError):  # the watcher is gone, or the function closed its pipe
            self._write([number])

    def _write(self, message: list[Any]) -> None:
        with self.lock:
            pipe = self.running().stdin
            assert pipe is not None
            pipe.write(json.dumps(message).encode() + b"\n")


class _MainThread:
    """What the signal handlers know and tell.

    Attributes:
        is_called: whether a function runs under guard.
        is_interrupted: whether SIGINT has come since it began.
        status: with which the program ends.
    """

    is_called = False
    is_interrupted = False
    status = 1


def _call_in_main(function: Callable[[], T]) -> T:
    previous = signal.getsignal(signal.SIGINT)
    if callable(previous):
        signal.signal(signal.SIGINT, partial(_pass_on, previous))
    _MAIN.is_called, _MAIN.is_interrupted = True, False
    try:
        return function()
    finally:
        _MAIN.is_called = False
        if callable(previous):
            signal.signal(signal.SIGINT, previous)


def _end_child(what: str) -> NoReturn:
    """End a process that the function forked and that leaves it: it would go on with this program a second time."""
    error = sys.exc_info()[1]
    if error is not None and not isinstance(error, SystemExit):
        os.write(2, f"{what}: a process that it forked raised {type(error).__name__}, and is ended\n".encode())
    os._exit(0 if error is None or isinstance(error, SystemExit) else 1)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if _MAIN.is_called:
        _MAIN.is_called = False  # once; if the function goes on, its process is killed
        raise TimeUpError


def _pass_on(previous: Callable[[int, FrameType | None], Any], number: int, frame: FrameType | None) -> None:
    _MAIN.is_interrupted = True
    previous(number, frame)


def _end_without_threads(last: threading.Thread) -> None:
    last.join()
    time.sleep(GRACE_S if _MAIN.status else _GRACE_AFTER_SUCCESS_S)
    left = [t.name for t in threading.enumerate() if t is not threading.main_thread() and not t.daemon]
    if left:
        sys.stderr.write(f"a reward left threads behind that do not end ({', '.join(left)}): the process is ended\n")
        sys.stderr.flush()
        sys.stdout.flush()
        os._exit(_MAIN.status)


_WATCHER = _Watcher()
_MAIN = _MainThread()
