"""Rewards of mathematical answers, which math-verify compares in a separate process (see `math_process.py`)."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any, NamedTuple

from vlm_r1.parsing.limits import MAX_EXPRESSION_CHARS
from vlm_r1.rewards.base import RewardInput, unsuitable
from vlm_r1.rewards.math_process import MathProcess
from vlm_r1.rewards.math_text import Reading, plain, read

ENDED_COMPARISONS = "math/ended_comparisons"
"""Count of comparisons that were ended because they took too much time or memory; each of them counts as not equal."""


class Comparison(NamedTuple):
    """The result of comparing two texts: whether they are equal, and how many comparisons of formulas were ended."""

    equal: bool
    ended: int = 0


def math_reward(given: RewardInput[str | int | float]) -> float:
    """1 if answer and gold have the same mathematical value, or are the same text, else 0.

    Source: `math` of the original VLM-R1 (math-verify, then equality of texts), which cannot read a gold
    formula without dollar signs.

    Raises:
        DataError: the record's gold answer is neither a text nor a number.
    """
    if not isinstance(given.gold, str | int | float) or isinstance(given.gold, bool):
        raise unsuitable(given, "math", "formulas or numbers")
    given.counts.setdefault(ENDED_COMPARISONS, 0)  # the metric appears in every step that judges mathematics
    return 0.0 if given.value is None else judged_mathematics(given, str(given.gold), str(given.value))


def judged_mathematics(given: RewardInput[Any], gold: str, answer: str) -> float:
    """1 if two texts are mathematically equal, else 0; ended comparisons are added to the counts of `given`."""
    comparison = _compare(gold, answer)
    given.counts[ENDED_COMPARISONS] += comparison.ended
    return float(comparison.equal)


def same_mathematics(gold: str, answer: str) -> bool:
    """Return whether two texts are equal or have the same mathematical value; no text raises an error.

    `math_text.read` reads them. They are equal by value only if both were read completely; several values are compared
    one by one. They are not equal if either is longer than `MAX_EXPRESSION_CHARS`, or if comparing them takes more
    processor time or memory than `math_worker.py` allows.

    >>> same_mathematics("\\\\frac{1}{2}", "0.5"), same_mathematics("42", "$41$"), same_mathematics("1", "9^{9^{9^9}}")
    (True, False, False)
    """
    return _compare(gold, answer).equal


@functools.lru_cache(maxsize=4096)  # reward and metric compare the same texts
def _compare(gold: str, answer: str) -> Comparison:
    if gold.strip() == answer.strip():
        return Comparison(True)
    if max(len(gold), len(answer)) > MAX_EXPRESSION_CHARS:
        return Comparison(False)
    if plain(gold) == plain(answer) != "":
        return Comparison(True)
    left, right = _read(gold), _read(answer)
    if left is None or right is None:
        return Comparison(False)
    replies: list[bytes] = []
    return Comparison(_same_values(left, right, replies), replies.count(b""))


def values_read(gold: str) -> tuple[str, ...] | None:
    """Return the values with which answers are compared, in LaTeX; None if only the same text is equal.

    >>> values_read("4πcm"), values_read("3 \\\\foo 4"), values_read("No solution")
    (('4\\\\pi',), None, None)
    """
    reading = _read(gold) if len(gold) <= MAX_EXPRESSION_CHARS else None
    if reading is None or not all(_PROCESS.ask(formula, formula) == b"1" for formula in reading.formulas):
        return None
    return reading.formulas


_read = functools.lru_cache(maxsize=4096)(read)


def _same_values(gold: Reading, answer: Reading, replies: list[bytes]) -> bool:
    """Return whether two readings have the same values; appends the replies of the process to `replies`."""

    def same(a: str, b: str) -> bool:
        if _INTEGER.fullmatch(a) and _INTEGER.fullmatch(b):  # needs no process
            return int(a) == int(b)
        replies.append(_PROCESS.ask(a, b))
        return replies[-1] == b"1"

    left, right = gold.formulas, answer.formulas
    if len(left) != len(right):  # ±2 and "2 or -2", \{1, 2\} and "1, 2"
        return min(len(left), len(right)) == 1 and same(", ".join(left), ", ".join(right))
    if gold.ordered or len(left) == 1:
        return all(map(same, left, right))
    rest = list(right)
    for formula in left:
        found = next((other for other in rest if same(formula, other)), None)
        if found is None:
            return False
        rest.remove(found)
    return True


_INTEGER = re.compile(r"-?[0-9]{1,300}")
_PROCESS = MathProcess(Path(__file__).with_name("math_worker.py"))
