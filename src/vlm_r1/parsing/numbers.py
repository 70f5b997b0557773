"""Read one number from an answer.

Words and signs around the number count as its unit: "There are 3 apples." is 3, "50%" is 50, "$12" is 12. The number
must be the only one, and separate: `1/2`, `1.2.3`, `3rd` and digits of other scripts are not read. A known unit, or one
in a script without spaces, may follow directly: `12cm`, `60km/h`, `3个`. But `x5`, `3rd`, `4K` and `GPT-4` are names. A
minus may be any dash: -5, −5, –5. Commas may separate thousands (`1,234.5`); numbers with other commas are not read.
"""

from __future__ import annotations

import re

from vlm_r1.parsing.choices import IN_WORD
from vlm_r1.parsing.limits import MAX_ANSWER_CHARS, MAX_NUMBER
from vlm_r1.parsing.units import ATTACHED_UNIT
from vlm_r1.types import Parsed, ParseFailure

_DASHES = "‐‑‒–—−﹣－-"  # the plain one last, as a class of characters needs it
_AS_PLAIN = str.maketrans(dict.fromkeys(_DASHES, "-") | {"＋": "+", ",": ""})
_LETTER = r"[^\W\d_\u3040-\u30ff\u3400-\u9fff]"

_NUMBER = re.compile(
    rf"(?=[0-9.+＋{_DASHES}])"  # where one may begin at all: the rest is looked at there alone
    # not the tail of a word, of a longer number, of a name (GPT-4), of a unit's power (m^2), or an ordinal (第3)
    rf"(?<!{IN_WORD})(?<![.,/第])(?<!{_LETTER}[\^{_DASHES}])(?<!{_LETTER}\^\{{)"
    rf"[+＋{_DASHES}]?(?:(?:[1-9][0-9]{{0,2}}(?:,[0-9]{{3}})+|[0-9]++)(?:\.[0-9]++)?|\.[0-9]++)"
    rf"(?:[eE][+{_DASHES}]?[0-9]++)?"
    r"(?![.,/][0-9])"  # nor the head of a longer one
)


def parse_number(text: str) -> Parsed[float] | ParseFailure:
    """Read the one number of an answer.

    Returns:
        The number; or a failure: `too_long`, `no_number`, `several_numbers` (different ones) or `number_out_of_range`
        (beyond ±`MAX_NUMBER`).

    >>> parse_number("There are 1,234 apples."), parse_number("3 or 4")
    (Parsed(value=1234.0), ParseFailure(reason='several_numbers'))
    >>> parse_number("−5"), parse_number("12cm"), parse_number("3rd")
    (Parsed(value=-5.0), Parsed(value=12.0), ParseFailure(reason='no_number'))
    """
    if len(text) > MAX_ANSWER_CHARS:
        return ParseFailure("too_long")
    numbers = {_value(match[0]) for match in _NUMBER.finditer(text) if _may_end(text, match.end())}
    if not numbers:
        return ParseFailure("no_number")
    if len(numbers) > 1:
        return ParseFailure("several_numbers")
    number = numbers.pop()
    return Parsed(number) if abs(number) <= MAX_NUMBER else ParseFailure("number_out_of_range")


def _may_end(text: str, at: int) -> bool:
    """Return whether a number may end there: no word follows, or its unit does."""
    return at == len(text) or not (text[at].isalnum() or text[at] == "_") or bool(ATTACHED_UNIT.match(text, at))


def _value(number: str) -> float:
    return float(number.replace(",", "") if number.isascii() else number.translate(_AS_PLAIN))


def parse_integer(text: str) -> Parsed[int] | ParseFailure:
    """Read the one integer of an answer, like `parse_number`; `3.0` is 3, other fractions are `not_an_integer`.

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
