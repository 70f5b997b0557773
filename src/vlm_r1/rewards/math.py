"""Rewards of answers that are mathematics, compared by math-verify in a process of its own (see `math_process.py`)."""

from __future__ import annotations

import functools
from pathlib import Path

from vlm_r1.parsing.limits import MAX_EXPRESSION_CHARS
from vlm_r1.rewards.base import RewardInput, unsuitable
from vlm_r1.rewards.math_process import MathProcess


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

    Not equal, too, if either is longer than `MAX_EXPRESSION_CHARS`, or if comparing them takes more processor time or
    memory than `math_worker.py` allows.

    >>> same_mathematics("\\\\frac{1}{2}", "0.5"), same_mathematics("42", "$41$"), same_mathematics("1", "9^{9^{9^9}}")
    (True, False, False)
    """
    if gold.strip() == answer.strip():
        return True
    return max(len(gold), len(answer)) <= MAX_EXPRESSION_CHARS and _PROCESS.ask(gold, answer) == b"1"


def ended_comparisons() -> int:
    """How many comparisons this process has ended because they took too much; each of them counted as not equal."""
    return _PROCESS.ended


_PROCESS = MathProcess(Path(__file__).with_name("math_worker.py"))
