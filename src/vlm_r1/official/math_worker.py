"""A program that runs the original's comparison of mathematics unchanged, under the kernel's limits.

It writes `1` when it is ready. Then it reads lines of JSON, `["answer", "gold"]`, and writes one byte for each: `1` for
equal, `0` for different, `?` if memory ran out. `official/mathematics.py` runs it. It ends when its input ends, and
when a comparison takes too much time: the original's own limits are signals, which cannot interrupt one long
instruction.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import signal
import sys
from typing import Any, cast

from math_verify import parse, verify

CPU_LIMIT_S = 20.0  # limit of one comparison: the original allows 5 s of wall time for each of its three steps
MEMORY_LIMIT_BYTES = 2 << 30


def reply(answer: str, gold: str) -> bytes:
    """Compare two texts by math-verify with its default options, like the original.

    >>> reply("so $0.5$", "\\\\frac{1}{2}"), reply("$12\\\\pi$", "12\\\\pi")  # without dollar signs it reads 12
    (b'1', b'0')
    """
    try:
        left, right = cast(list[Any], parse(answer)), cast(list[Any], parse(gold))  # it says no more than `list`
        return b"1" if verify(left, right) else b"0"
    except (MemoryError, RecursionError):
        return b"?"


def main() -> None:
    """Write `1` when everything is loaded, then reply line by line."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    replies = sys.stdout.buffer
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),  # the grammar's complaints
    ):
        replies.write(reply("$0.5$", "\\frac{1}{2}"))
        replies.flush()
        for line in sys.stdin.buffer:
            signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)  # its signal ends the process
            byte = reply(*json.loads(line))
            signal.setitimer(signal.ITIMER_PROF, 0)
            replies.write(byte)
            replies.flush()


if __name__ == "__main__":
    main()
