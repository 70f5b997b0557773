"""`sampling_strategy` of a data source: the first, the last or random records of a file, as in the original's YAML."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from vlm_r1.registry import quoted, suggestion

_KINDS: dict[str, Literal["all", "first", "last", "random"]] = {
    "all": "all",
    "first": "first",
    "end": "last",
    "last": "last",
    "random": "random",
}
_NUMBER = re.compile(r"([1-9][0-9]*)(%?)")
_MOST_DIGITS = 18
_WANTED = (
    "wanted all, first:N, last:N (or end:N) or random:N, with N a whole number from 1 or a percentage from 1% to 100%, "
    "e.g. random:1000 or first:10%"
)


class Strategy(NamedTuple):
    """How many records of a source are kept, and which.

    Attributes:
        kind: which ones.
        number: how many, or how many in a hundred; 0 if all are.
        is_percentage: whether `number` is a percentage.
    """

    kind: Literal["all", "first", "last", "random"]
    number: int = 0
    is_percentage: bool = False

    def count(self, n: int) -> int:
        """Return how many of n records are kept; a percentage is rounded up, as in the original.

        >>> [Strategy("first", 10, True).count(n) for n in (1, 10, 11)], Strategy("last", 7).count(5)
        ([1, 1, 2], 5)
        """
        if self.kind == "all":
            return n
        return min(n, -(-self.number * n // 100) if self.is_percentage else self.number)

    def asks_for_more(self, n: int) -> bool:
        """Return whether it asks for more than n records."""
        return not self.is_percentage and self.number > n


def parse_strategy(text: str) -> Strategy:
    """Parse a `sampling_strategy`.

    Raises:
        ValueError: it is none; the message quotes it and says what is wanted.

    >>> parse_strategy("random:1000"), parse_strategy("end:5%").kind
    (Strategy(kind='random', number=1000, is_percentage=False), 'last')
    """
    kind, colon, rest = text.partition(":")
    if text == "all":
        return Strategy("all")
    number = _NUMBER.fullmatch(rest)
    if kind not in _KINDS or kind == "all" or number is None or len(number[1]) > _MOST_DIGITS:
        known = suggestion(kind, _KINDS) if kind not in _KINDS else ""
        raise ValueError(f"sampling_strategy is {quoted(text)}. {known}{_without(colon, kind)}{_WANTED}")
    found = Strategy(_KINDS[kind], int(number[1]), bool(number[2]))
    if found.is_percentage and found.number > 100:
        raise ValueError(f"sampling_strategy is {quoted(text)}, more than all; {_WANTED}")
    return found


def _without(colon: str, kind: str) -> str:
    return "The number is missing; " if kind in _KINDS and kind != "all" and not colon else ""


def checked_strategy(text: str) -> str:
    """Return a `sampling_strategy` as it is written; ValueError if it is none."""
    parse_strategy(text)
    return text
