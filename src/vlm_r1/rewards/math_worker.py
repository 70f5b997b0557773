"""The process that compares mathematics: a line `["gold", "answer"]` of JSON in, a byte out, `1` if they are equal.

Run by `rewards/math.py` as a program. It ends when its input ends, and whenever one comparison takes too much: an
expression such as 9^{9^{9^9}} keeps Python inside one instruction for hours, where neither an exception nor a signal
handler can reach it. So the handler is left to be the kernel's, which ends the process. The limit is on processor
time, so that a reward does not depend on how busy the machine is.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import signal
import sys

from math_verify import parse, verify

CPU_LIMIT_S = 2.0  # of one comparison; most take some 10 ms
MEMORY_LIMIT_BYTES = 2 << 30
_DELIMITERS = ("$", "\\boxed", "\\(", "\\[")


def expression(text: str) -> str:
    """Mark a bare formula as one: without `$`, math-verify takes the last number of a text, e.g. 1 of "x^2 + 1".

    A text with words keeps to that rule, and so does one that marks its formula itself.

    >>> expression("12\\\\pi"), expression("The answer is 0.5."), expression("so $x^2$")
    ('$12\\\\pi$', 'The answer is 0.5', 'so $x^2$')
    """
    text = text.strip().rstrip(". ")
    words = any(len(word) > 1 and word.isalpha() for word in text.split())
    return text if words or any(mark in text for mark in _DELIMITERS) else f"${text}$"


def same_value(gold: str, answer: str) -> bool:
    """Whether two texts mean the same value, by math-verify; unbounded in time.

    >>> same_value("\\\\frac{1}{2}", "The answer is 0.5."), same_value("x^2+1", "$1+x^2$"), same_value("2", "x + 2")
    (True, True, False)
    """
    left, right = (parse(expression(text), parsing_timeout=0) for text in (gold, answer))
    return verify(left, right, timeout_seconds=0)


def main() -> None:
    """Answer line by line, after a first `1` that says: loaded, warm and working."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it warns that its own timeouts are off
    replies = sys.stdout.buffer
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),  # the grammar's complaints
    ):
        replies.write(b"1" if same_value("\\frac{1}{2}", "$0.5$") else b"0")
        replies.flush()
        for line in sys.stdin.buffer:
            gold, answer = json.loads(line)
            signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT_S)
            reply = b"1" if same_value(gold, answer) else b"0"
            signal.setitimer(signal.ITIMER_PROF, 0)
            replies.write(reply)
            replies.flush()


if __name__ == "__main__":
    main()
