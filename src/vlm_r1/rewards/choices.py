"""Rewards of answers that choose: an option's letter, or yes or no."""

from __future__ import annotations

from vlm_r1.parsing.choices import parse_yes_no
from vlm_r1.parsing.options import options_of, read_choice
from vlm_r1.rewards.base import RewardInput, unsuitable
from vlm_r1.types import Parsed


def choice(given: RewardInput[str]) -> float:
    """1 if answer and gold are the same option, else 0.

    Both are read by `read_choice` with the options of the record, if it has any: "B", "B. the dog" and "the dog".

    Source: `mcq` of the original VLM-R1, which cannot read "(B)", and reads "A or B?" as B.

    Raises:
        DataError: the record's gold answer has no option letter.
    """
    options = options_of(given.record)
    gold = read_choice(given.gold, options) if isinstance(given.gold, str) else None
    if not isinstance(gold, Parsed):
        raise unsuitable(given, "choice", "option letters")
    return float(isinstance(given.value, str) and read_choice(given.value, options) == gold)


def yes_no(given: RewardInput[str | bool]) -> float:
    """1 if answer and gold are both yes or both no, else 0; `parse_yes_no` reads texts.

    Source: `yes_no` of the original VLM-R1, which finds "no" inside "know", and gives 1 if neither side has either
    word.

    Raises:
        DataError: the record's gold answer is neither yes nor no.
    """
    gold = _verdict(given.gold)
    if gold is None:
        raise unsuitable(given, "yes_no", "yes and no")
    return float(_verdict(given.value) == gold)


def _verdict(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    parsed = parse_yes_no(value) if isinstance(value, str) else None
    return parsed.value if isinstance(parsed, Parsed) else None
