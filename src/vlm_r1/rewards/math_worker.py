"""Compares two formulas in LaTeX, as `math_text.py` finds them; `math_server.py` loads this file in its process."""

from __future__ import annotations

import math
import re
import sys
from functools import lru_cache
from typing import Any

from latex2sympy2_extended.math_normalization import NormalizationConfig
from math_verify import LatexExtractionConfig, verify
from math_verify.parser import extract_latex

CPU_LIMIT_S = 2.0  # of one comparison; most take some 10 ms

# without `units`, `boxed` and other steps that drop something of a formula: `math_text.py` has done that already
_WHOLE = LatexExtractionConfig(
    normalization_config=NormalizationConfig(units=False, malformed_operators=True, nits=True, boxed="none")
)
_FORMULA = re.compile(r"(?P<first_latexInlineDollar>.+)", re.DOTALL)  # math-verify's name for text between `$`

_DECIMALS = 6  # decimals in which two numbers must agree if one is a decimal fraction
_DIGITS = 5  # significant digits in which small numbers must agree too
_EXACT_DIGITS = 15  # significant digits in which all other numbers must agree


@lru_cache(maxsize=256)  # a gold formula is compared with several answers
def read(formula: str) -> Any:
    """Read a formula as a value of sympy; None if it cannot be read completely."""
    match = _FORMULA.fullmatch(formula)
    return extract_latex(match, _WHOLE)[0] if match else None


def same_value(gold: str, answer: str) -> bool:
    """Return whether two formulas have the same value according to math-verify; the time is not limited.

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
    """The absolute values of all numbers in a value except zero: one for a number, several for a set.

    >>> [round(size, 2) for size in sizes(read("x = \\\\frac{1}{4}"))], sizes(read("0"))
    ([0.25], [])
    """
    if getattr(value, "is_number", False):
        size = abs(value.evalf(_DIGITS))
        return [max(float(size), sys.float_info.min)] if size.is_finite and size != 0 else []
    return [size for argument in getattr(value, "args", ()) for size in sizes(argument)]


def reply(gold: str, answer: str) -> bytes:
    """Return the byte `1` if two formulas have the same value, else `0`."""
    return b"1" if same_value(gold, answer) else b"0"


SAMPLE = ("\\frac{1}{2}", "0.5")
