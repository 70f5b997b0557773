"""Rewards of answers that are numbers. `parse_number` reads texts: "1,234 m" is 1234, "50%" is 50, "1/2" is none."""

from __future__ import annotations

from vlm_r1.parsing.numbers import parse_number
from vlm_r1.rewards.base import RewardInput, unsuitable, wrong_option
from vlm_r1.types import Parsed

Number = str | int | float


def exact_number(given: RewardInput[Number]) -> float:
    """1 if answer and gold are the same number, else 0.

    Raises:
        DataError: the record's gold answer is not a number.
    """
    value, gold = _read(given, "count")
    return float(value == gold)


def numeric(given: RewardInput[Number], *, tolerance: float = 0.0, relative: float = 0.0) -> float:
    """1 if the answer is near enough to the gold number, else 0.

    r = 1 if |value − gold| ≤ max(tolerance, relative · |gold|), in {0, 1}. Source: `numeric` of the original VLM-R1,
    without tolerance; `relative=0.05` is the relaxed accuracy of ChartQA, arXiv 2203.10244.

    Args:
        tolerance: allowed difference in the unit of the gold number.
        relative: allowed difference as a share of the gold number, e.g. 0.05.

    Raises:
        DataError: the record's gold answer is not a number.
        ConfigError: an option is negative.
    """
    if min(tolerance, relative) < 0:
        raise wrong_option("numeric", "tolerances", (tolerance, relative), "none < 0")
    value, gold = _read(given, "numeric")
    return float(value is not None and abs(value - gold) <= max(tolerance, relative * abs(gold)))


def count_relative(given: RewardInput[Number]) -> float:
    """Nearness of a count: an error of one in ten costs a tenth.

    r = max(0, 1 − |value − gold| / max(|gold|, 1)), in [0, 1]. It suits crowds. For small counts use `count`, since
    here "about three" would be enough. Source: the precision reward of CrowdVLM-R1, arXiv 2504.03724, without its
    offset and its cut at one half.

    Raises:
        DataError: the record's gold answer is not a number.
    """
    value, gold = _read(given, "count_relative")
    return 0.0 if value is None else max(0.0, 1.0 - abs(value - gold) / max(abs(gold), 1.0))


def _read(given: RewardInput[Number], name: str) -> tuple[float | None, float]:
    gold = _number(given.gold)
    if gold is None:
        raise unsuitable(given, name, "numbers")
    return _number(given.value), gold


def _number(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    parsed = parse_number(value) if isinstance(value, str) else None
    return parsed.value if isinstance(parsed, Parsed) else None
