"""A program that answers questions by a function that may take too long; `math_process.py` runs it.

Its argument is a file that defines `reply(first, second) -> bytes` (one byte), `CPU_LIMIT_S` and `SAMPLE`, a question
whose reply is `1`. It loads the file, which takes about two seconds, writes `1` when the sample works, and then replies
to each line of JSON, `[first, second]`, by one byte. It ends when its input ends.

A forked child replies. An expression such as 9^{9^{9^9}} keeps Python inside one instruction for hours, where neither
an exception nor a signal handler can interrupt it. So the signal has the kernel's default handler, which ends the
child; its parent writes `ENDED` and forks the next one within milliseconds, with everything loaded. The limit is on
processor time, so that a reward does not depend on how busy the machine is.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import resource
import signal
import sys
from types import ModuleType

MEMORY_LIMIT_BYTES = 2 << 30
ENDED = b"x"
"""Stands for the reply to a question over which the child ended."""

_IGNORED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")  # they are for the caller; the end of input ends us


def main(path: str) -> None:
    """Load the file, and reply until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    for name in _IGNORED:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    program = _load(path)
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it warns that its own timeouts are off
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),  # the grammar's complaints
    ):
        os.write(1, b"1" if program.reply(*program.SAMPLE) == b"1" else b"0")
        while _ended_over_a_question(program):
            os.write(1, ENDED)


def _ended_over_a_question(program: ModuleType) -> bool:
    """Fork a child that replies; returns, when it has ended, whether the next one must take over."""
    child = os.fork()
    if child == 0:
        try:
            _reply(program)
            os._exit(0)
        finally:
            os._exit(1)  # an error that the function did not catch, such as MemoryError
    _, status = os.waitpid(child, 0)
    # SIGKILL comes from outside, perhaps between two questions: then the caller must start everything anew
    return status != 0 and os.waitstatus_to_exitcode(status) != -signal.SIGKILL


def _reply(program: ModuleType) -> None:
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, program.CPU_LIMIT_S)
        byte = program.reply(*json.loads(line))
        signal.setitimer(signal.ITIMER_PROF, 0)
        os.write(1, byte)


def _load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("program", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main(sys.argv[1])
