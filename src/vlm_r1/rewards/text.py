"""Rewards of answers that are short texts."""

from __future__ import annotations

from vlm_r1.parsing.choices import normalize_text
from vlm_r1.rewards.base import RewardInput, unsuitable


def exact_match(given: RewardInput[str | int | float]) -> float:
    """1 if answer and gold are the same text up to case, white space and final full stops, else 0.

    Source: `all_match` of the original VLM-R1, which however tells "No  Defect" from "No Defect".

    Raises:
        DataError: the record's gold answer is neither a text nor a number.
    """
    if not isinstance(given.gold, str | int | float):
        raise unsuitable(given, "exact_match", "short texts")
    return 0.0 if given.value is None else float(same_text(str(given.value), str(given.gold)))


def same_text(a: str, b: str) -> bool:
    """Equality after `normalize_text`.

    >>> same_text("No defect.", "no  Defect")
    True
    """
    return normalize_text(a) == normalize_text(b)
