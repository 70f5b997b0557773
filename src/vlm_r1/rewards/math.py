"""Rewards of answers that are mathematics, compared by math-verify in a process of its own (see `math_process.py`)."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from vlm_r1.parsing.limits import MAX_EXPRESSION_CHARS
from vlm_r1.rewards.base import RewardInput, unsuitable
from vlm_r1.rewards.math_process import MathProcess
from vlm_r1.rewards.math_text import Reading, plain, read


def math_reward(given: RewardInput[str | int | float]) -> float:
    """1 if answer and gold have the same mathematical value, or are the same text, else 0.

    Source: `math` of the original VLM-R1 (math-verify, then equality of texts), which however cannot read a gold
    formula without dollar signs.

    Raises:
        DataError: the record's gold answer is neither a text nor a number.
    """
    if not isinstance(given.gold, str | int | float) or isinstance(given.gold, bool):
        raise unsuitable(given, "math", "formulas or numbers")
    return 0.0 if given.value is None else float(same_mathematics(str(given.gold), str(given.value)))


@functools.lru_cache(maxsize=4096)  # reward and metric ask the same question
def same_mathematics(gold: str, answer: str) -> bool:
    """Whether two texts are equal, or mean the same value; never raises for what they hold.

    They are read by `math_text.read`. Nothing is equal by value unless all of both was read; several values are
    compared one by one. Not equal, too, if either is longer than `MAX_EXPRESSION_CHARS`, or if comparing them takes
    more processor time or memory than `math_worker.py` allows.

    >>> same_mathematics("\\\\frac{1}{2}", "0.5"), same_mathematics("42", "$41$"), same_mathematics("1", "9^{9^{9^9}}")
    (True, False, False)
    """
    if gold.strip() == answer.strip():
        return True
    if max(len(gold), len(answer)) > MAX_EXPRESSION_CHARS:
        return False
    if plain(gold) == plain(answer) != "":
        return True
    left, right = _read(gold), _read(answer)
    return left is not None and right is not None and _same_values(left, right)


def what_is_read(gold: str) -> tuple[str, ...] | None:
    """The values that answers are compared with, in LaTeX; None where only the same text is equal.

    >>> what_is_read("4πcm"), what_is_read("3 \\\\foo 4"), what_is_read("No solution")
    (('4\\\\pi',), None, None)
    """
    reading = _read(gold) if len(gold) <= MAX_EXPRESSION_CHARS else None
    if reading is None or not all(_PROCESS.ask(formula, formula) == b"1" for formula in reading.formulas):
        return None
    return reading.formulas


_read = functools.lru_cache(maxsize=4096)(read)


def _same_values(gold: Reading, answer: Reading) -> bool:
    left, right = gold.formulas, answer.formulas
    if len(left) != len(right):  # ±2 and "2 or -2", \{1, 2\} and "1, 2"
        return min(len(left), len(right)) == 1 and _same(", ".join(left), ", ".join(right))
    if gold.ordered or len(left) == 1:
        return all(map(_same, left, right))
    rest = list(right)
    for formula in left:
        found = next((other for other in rest if _same(formula, other)), None)
        if found is None:
            return False
        rest.remove(found)
    return True


def _same(gold: str, answer: str) -> bool:
    """Whether two formulas have one value; whole numbers are compared here, all others by the process."""
    if _INTEGER.fullmatch(gold) and _INTEGER.fullmatch(answer):
        return int(gold) == int(answer)
    return _PROCESS.ask(gold, answer) == b"1"


def ended_comparisons() -> int:
    """How many comparisons this process has ended because they took too much; each of them counted as not equal."""
    return _PROCESS.ended


_INTEGER = re.compile(r"-?[0-9]{1,300}")
_PROCESS = MathProcess(Path(__file__).with_name("math_worker.py"))
