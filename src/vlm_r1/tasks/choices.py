"""Tasks whose answers choose: an option's letter, or yes or no. Any number of images."""

from __future__ import annotations

import operator
import re
import string
from collections.abc import Mapping

from vlm_r1.parsing.choices import parse_choice, parse_yes_no
from vlm_r1.rewards.text import same_text
from vlm_r1.tasks.plain import PlainTask, read_as_text
from vlm_r1.types import Parsed, ParseFailure, Record

OPTIONS = "options"
"""Column of a record that lists the texts of its options, ["cat", "dog"], or names them, {"A": "cat", "B": "dog"}."""

_ASK_FOR_LETTER = "Answer with the letter of the right option."
_ASK_FOR_VERDICT = "Answer yes or no."

_BARE_LETTER = re.compile(r"\s*\(?([A-Za-z])[.:)]?\s*")
_LETTERED_LINE = re.compile(r"^[ \t]*\(?([A-Z])[.:)][ \t]*(\S.*)$", re.MULTILINE)


def options_of(record: Record) -> Mapping[str, str]:
    """The texts of a record's options by letter: from its column `options`, else from lines of its problem.

    Lines begin with their letter, "A. cat", "A) cat", "A: cat" or "(A) cat", and count from A on. Texts of the column
    may begin with their letters too. Empty if there are none.

    >>> dict(options_of(Record("1", "choice", "Which?\\nA. cat\\nB. dog", (), "B")))
    {'A': 'cat', 'B': 'dog'}
    """
    column = record.columns.get(OPTIONS)
    if isinstance(column, dict):
        return {letter.strip().upper(): str(text) for letter, text in column.items()}
    if isinstance(column, list):
        texts = dict(zip(string.ascii_uppercase, map(str, column), strict=False))
        return {letter: _without_letter(text, letter) for letter, text in texts.items()}
    return _options_in(record.problem)


def _options_in(problem: str) -> Mapping[str, str]:
    options: dict[str, str] = {}
    for match in _LETTERED_LINE.finditer(problem):
        if match[1] == string.ascii_uppercase[len(options) :][:1]:
            options[match[1]] = match[2].strip()
    return options if len(options) > 1 else {}


def _without_letter(text: str, letter: str) -> str:
    match = _LETTERED_LINE.fullmatch(text.strip())
    return match[2] if match and match[1] == letter else text


def _ask_choice(record: Record) -> str:
    """The problem; options that it does not hold itself follow, one to a line."""
    options = options_of(record)
    if not options or _options_in(record.problem):
        return record.problem
    lines = [f"{letter}. {text}" for letter, text in options.items()]
    return "\n".join([record.problem.rstrip(), *lines, _ASK_FOR_LETTER])


def _gold_letter(record: Record) -> Parsed[str] | ParseFailure:
    """A letter, the text of an option, or both ("B. dog"); of an option, where these are known."""
    options = options_of(record)
    parsed = read_as_text(record.answer, lambda text: _read_option(text, options))
    unknown = isinstance(parsed, Parsed) and options and parsed.value not in options
    return ParseFailure("not_among_options") if unknown else parsed


def _read_option(text: str, options: Mapping[str, str]) -> Parsed[str] | ParseFailure:
    bare = _BARE_LETTER.fullmatch(text)
    if bare and (not options or bare[1].upper() in options):
        return Parsed(bare[1].upper())
    named = [letter for letter, option in options.items() if same_text(text, option)]
    return Parsed(named[0]) if len(named) == 1 else parse_choice(text)


def _ask_yes_no(record: Record) -> str:
    """The problem; unless it speaks of yes or no itself, the answers follow."""
    asks = re.search(r"\b(yes|no)\b", record.problem, re.IGNORECASE)
    return record.problem if asks else f"{record.problem.rstrip()} {_ASK_FOR_VERDICT}"


def _gold_verdict(record: Record) -> Parsed[bool] | ParseFailure:
    """JSON's true and false, or a text."""
    return Parsed(record.answer) if isinstance(record.answer, bool) else read_as_text(record.answer, parse_yes_no)


CHOICE = PlainTask[str, str](
    name="choice",
    reward="choice",
    wanted="option: a letter, e.g. B, or the text of one of the record's options",
    read=parse_choice,
    read_gold=_gold_letter,
    measures={"accuracy": operator.eq},
    ask=_ask_choice,
)

YES_NO = PlainTask[bool, bool](
    name="yes_no",
    reward="yes_no",
    wanted='verdict: true, false, or a text with the word "yes" or "no"',
    read=parse_yes_no,
    read_gold=_gold_verdict,
    measures={"accuracy": operator.eq},
    write=lambda verdict: "Yes" if verdict else "No",
    ask=_ask_yes_no,
)
