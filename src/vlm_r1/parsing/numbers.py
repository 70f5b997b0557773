"""One number out of an answer.

Words and signs around the number are passed over as its unit ("There are 3 apples." is 3, "50%" is 50, "$12" is 12),
but it must be the only one, and stand by itself: `1/2`, `1.2.3`, `3rd` and digits of other scripts are not guessed at.
Commas may part thousands (`1,234.5`); any other comma between digits is not guessed at either.
"""

from __future__ import annotations

import re

from vlm_r1.parsing.limits import MAX_ANSWER_CHARS, MAX_NUMBER
from vlm_r1.types import Parsed, ParseFailure

_NUMBER = re.compile(
    r"(?<![\w.,/])"  # not the tail of a word or of a longer number
    r"[+-]?(?:(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[0-9]++)(?:\.[0-9]++)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?"
    r"(?!\w|[.,/][0-9])"  # nor the head of one
)


def parse_number(text: str) -> Parsed[float] | ParseFailure:
    """Read the one number of an answer.

    Returns:
        The number, or `too_long`, `no_number`, `several_numbers` (different ones) or `number_out_of_range` (beyond
        ±`MAX_NUMBER`).

    >>> parse_number("There are 1,234 apples."), parse_number("3 or 4")
    (Parsed(value=1234.0), ParseFailure(reason='several_numbers'))
    """
    if len(text) > MAX_ANSWER_CHARS:
        return ParseFailure("too_long")
    numbers = {float(match[0].replace(",", "")) for match in _NUMBER.finditer(text)}
    if not numbers:
        return ParseFailure("no_number")
    if len(numbers) > 1:
        return ParseFailure("several_numbers")
    number = numbers.pop()
    return Parsed(number) if abs(number) <= MAX_NUMBER else ParseFailure("number_out_of_range")


def parse_integer(text: str) -> Parsed[int] | ParseFailure:
    """Read the one integer of an answer; `3.0` is 3, other fractions are `not_an_integer`; else as `parse_number`.

    >>> parse_integer("3.0"), parse_integer("2.5")
    (Parsed(value=3), ParseFailure(reason='not_an_integer'))
    """
    match parse_number(text):
        case Parsed(value=number) if number.is_integer():
            return Parsed(int(number))
        case Parsed():
            return ParseFailure("not_an_integer")
        case failure:
            return failure
