"""The process that compares mathematics: a line `["gold", "answer"]` of JSON in, a byte out, `1` if they are equal.

Both are one formula each in LaTeX, as `math_text.py` finds them. Run by `rewards/math.py` as a program. It ends when
its input ends, and whenever one comparison takes too much: an expression such as 9^{9^{9^9}} keeps Python inside one
instruction for hours, where neither an exception nor a signal handler can reach it. So the handler is left to be the
kernel's, which ends the process. The limit is on processor time, so that a reward does not depend on how busy the
machine is.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import resource
import signal
import sys
from functools import lru_cache
from typing import Any

from latex2sympy2_extended.math_normalization import NormalizationConfig
from math_verify import LatexExtractionConfig, verify
from math_verify.parser import extract_latex

CPU_LIMIT_S = 2.0  # of one comparison; most take some 10 ms
MEMORY_LIMIT_BYTES = 2 << 30

# without `units`, `boxed` and whatever else leaves out a part of a formula: that has been done where it is right
_WHOLE = LatexExtractionConfig(
    normalization_config=NormalizationConfig(units=False, malformed_operators=True, nits=True, boxed="none")
)
_FORMULA = re.compile(r"(?P<first_latexInlineDollar>.+)", re.DOTALL)  # as math-verify names what stands between `$`

_DECIMALS = 6  # to which two numbers of which one is a decimal fraction must agree
_DIGITS = 5  # to which small ones must, too
_EXACT_DIGITS = 15  # to which others must


@lru_cache(maxsize=256)  # a gold formula is read again with each of its answers
def read(formula: str) -> Any:
    """The formula as a value of sympy; None if it cannot be read to its end."""
    match = _FORMULA.fullmatch(formula)
    return extract_latex(match, _WHOLE)[0] if match else None


def same_value(gold: str, answer: str) -> bool:
    """Whether two formulas mean the same value, by math-verify; unbounded in time.

    >>> same_value("\\\\frac{1}{2}", "0.5"), same_value("x^2+1", "1+x^2"), same_value("2", "x + 2")
    (True, True, False)
    >>> same_value("10^{-20}", "6.63 \\\\cdot 10^{-34}"), same_value("\\\\frac{1}{3}", "0.333333")
    (False, True)
    """
    left, right = read(gold), read(answer)
    if left is None or right is None:
        return False
    least = min((size for value in (left, right) for size in sizes(value)), default=1.0)
    decimals = max(_DECIMALS, _DIGITS - 1 - math.floor(math.log10(least)))
    precision = _EXACT_DIGITS + max(0, decimals - _DECIMALS)
    return verify(left, right, float_rounding=decimals, numeric_precision=precision, timeout_seconds=0)


def sizes(value: Any) -> list[float]:
    """How large the numbers are that a value consists of, without zero: one for a number, several for a set.

    >>> [round(size, 2) for size in sizes(read("x = \\\\frac{1}{4}"))], sizes(read("0"))
    ([0.25], [])
    """
    if getattr(value, "is_number", False):
        size = abs(value.evalf(_DIGITS))
        return [max(float(size), sys.float_info.min)] if size.is_finite and size != 0 else []
    return [size for part in getattr(value, "args", ()) for size in sizes(part)]


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
        replies.write(b"1" if same_value("\\frac{1}{2}", "0.5") else b"0")
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
