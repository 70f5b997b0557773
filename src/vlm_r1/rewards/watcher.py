"""A program that watches the calls of reward functions from outside. `guard.py` runs it in a process of its own.

It is a process because a thread cannot help where the function keeps Python's lock, as a long multiplication does, and
because only another process is left to speak when the function ends its own. It reads lines of JSON:
`[number, what, limit_s, interrupts]` when a call begins, `[number]` when it has ended. When a call lasts longer than
its limit, the watcher sends `SIGNAL`, on which the caller raises an error inside the function. If that is of no use
within `GRACE_S`, it kills the caller. When the caller vanishes in a call, it says so. torchrun takes a process that
ended with status 0 for a success, so it is then asked to end the other processes.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from dataclasses import dataclass

SIGNAL = signal.SIGVTALRM  # a timer of processor time, which hardly anybody uses
GRACE_S = 5.0
POLL_S = 1.0  # of looking whether the caller lives, where a process that it forked keeps the pipe open
LAUNCHER_S = 10.0  # torchrun ends a failed run within a second, unless the others wait for the lost process (NCCL)

_IGNORED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")  # those for the caller may be sent to all processes


@dataclass
class Call:
    """A call that runs: what is called, with its record; when its time is up; whether it can be interrupted."""

    what: str
    limit_s: float
    deadline: float
    interrupts: bool


def main(caller: int, launcher: int) -> None:
    """Watch until the input ends or the caller is gone.

    Args:
        caller: process id of the caller, the parent.
        launcher: process id of torchrun; 0: there is none.
    """
    for name in _IGNORED:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    calls: dict[int, Call] = {}
    unread, is_open = b"", True
    while is_open or calls:
        wait_s = min([POLL_S, *(max(call.deadline - time.monotonic(), 0.0) for call in calls.values())])
        if select.select([0] if is_open else [], [], [], wait_s)[0]:
            arrived = os.read(0, 1 << 16)
            is_open = bool(arrived)
            *lines, unread = (unread + arrived).split(b"\n")
            for line in lines:
                _note(calls, *json.loads(line))
        elif os.getppid() != caller:
            _tell_of_the_end(calls, launcher)
            return
        for call in calls.values():
            if time.monotonic() >= call.deadline and _end(call, caller):
                return


def _note(calls: dict[int, Call], number: int, what: str = "", limit_s: float = 0.0, interrupts: bool = False) -> None:
    if what:
        calls[number] = Call(what, limit_s, time.monotonic() + limit_s, interrupts)
    else:
        calls.pop(number, None)


def _end(call: Call, caller: int) -> bool:
    """Interrupt a call; if that was tried before, kill the caller. Returns whether the caller was killed."""
    call.deadline = time.monotonic() + GRACE_S
    if call.interrupts:
        call.interrupts = False
        os.kill(caller, SIGNAL)
        return False
    _say(
        f"{call.what} gave no answer within {call.limit_s:g} s and cannot be interrupted, so the process is killed: "
        "raise reward_timeout_s, or mend the function"
    )
    os.kill(caller, signal.SIGKILL)
    return True


def _tell_of_the_end(calls: dict[int, Call], launcher: int) -> None:
    for call in calls.values():
        _say(
            f"{call.what} ended the process, or something else did while it ran (os._exit, a crash, a kill for want of "
            "memory): the run is not finished; mend the function, and go on with --resume"
        )
    deadline = time.monotonic() + LAUNCHER_S
    while calls and launcher and _lives(launcher):
        if time.monotonic() > deadline:
            os.kill(launcher, signal.SIGTERM)
            return
        time.sleep(0.1)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True


def _say(sentence: str) -> None:
    os.write(2, f"RewardError: {sentence}\n".encode(errors="replace"))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
