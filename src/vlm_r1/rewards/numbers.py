"""Rewards of answers that are numbers."""

from __future__ import annotations

from vlm_r1.parsing.numbers import parse_number
from vlm_r1.rewards.base import RewardInput, unsuitable
from vlm_r1.types import Parsed


def exact_number(given: RewardInput[str | int | float]) -> float:
    """1 if answer and gold are the same number, else 0; texts are read by `parse_number` ("3.0" is 3).

    Source: `numeric` of the original VLM-R1.

    Raises:
        DataError: the record's gold answer is not a number.
    """
    gold = _number(given.gold)
    if gold is None:
        raise unsuitable(given, "count", "numbers")
    return float(given.value is not None and _number(given.value) == gold)


def _number(value: object) -> float | None:
    if isinstance(value, int | float):
        return value
    parsed = parse_number(value) if isinstance(value, str) else None
    return parsed.value if isinstance(parsed, Parsed) else None
