"""Choices, verdicts and other short texts out of an answer.

A letter or word counts only if it stands by itself: not inside a word ("know"), a compound ("T-shirt"), a contraction
("I'm") or an abbreviation ("e.g."). Chinese and Japanese write no spaces, so their characters may stand beside it.
"""

from __future__ import annotations

import re

from vlm_r1.parsing.limits import MAX_ANSWER_CHARS
from vlm_r1.types import Parsed, ParseFailure

_IN_WORD = r"[^\W\u3040-\u30ff\u3400-\u9fff]"  # letters, digits and _, without kana and ideographs
_ALONE_BEFORE = rf"(?<!{_IN_WORD})(?<!{_IN_WORD}['’\-])"
_ALONE_AFTER = rf"(?!{_IN_WORD})(?!['’\-]{_IN_WORD})"

_LETTER = re.compile(rf"{_ALONE_BEFORE}(?<![A-Za-z]\.)([A-Za-z]){_ALONE_AFTER}(?!\.[A-Za-z](?![A-Za-z]))")
_GOES_ON_AS_OPTION = re.compile(r"\S|\s*+\Z|[^\S\n]*+\n|\s++(?:and|or|is|was|as|because|since)\b", re.IGNORECASE)
_NAMED_OPTION = re.compile(r"(?:option|choice)[\s:]*+\Z", re.IGNORECASE)

_YES_OR_NO = re.compile(rf"{_ALONE_BEFORE}(?:(not)\s++)?(yes|no){_ALONE_AFTER}", re.IGNORECASE)


def parse_choice(text: str) -> Parsed[str] | ParseFailure:
    """Read the one option letter of an answer: B of `B`, `(b)`, `B.`, `B) cat`, `\\boxed{B}`, `I think it is B`.

    Capital letters that stand by themselves count, except an A or I that may be a word ("A cat", "I think"). Those and
    small letters count before punctuation, a line's end, or a word that cannot follow an article ("A or", "A is"), and
    after "option" or "choice". What is no letter, e.g. the option's text, is not compared.

    Returns:
        A capital letter, or `too_long`, `no_choice` or `several_choices` (different ones).

    >>> parse_choice("(B) the dog"), parse_choice("A or B?"), parse_choice("A dog")
    (Parsed(value='B'), ParseFailure(reason='several_choices'), ParseFailure(reason='no_choice'))
    """
    if len(text) > MAX_ANSWER_CHARS:
        return ParseFailure("too_long")
    letters = {match[1].upper() for match in _LETTER.finditer(text) if _is_option(text, match)}
    if not letters:
        return ParseFailure("no_choice")
    return Parsed(letters.pop()) if len(letters) == 1 else ParseFailure("several_choices")


def _is_option(text: str, letter: re.Match[str]) -> bool:
    if letter[1].isupper() and letter[1] not in "AI":
        return True
    named = _NAMED_OPTION.search(text[max(0, letter.start() - len("option: ")) : letter.start()])
    return bool(named or _GOES_ON_AS_OPTION.match(text, letter.end()))


def parse_yes_no(text: str) -> Parsed[bool] | ParseFailure:
    """Read a verdict: the word "yes" or the word "no", in any case, wherever it stands.

    Returns:
        True for yes; or `too_long`, `no_yes_or_no` (also for "not yes"), or `yes_and_no`.

    >>> parse_yes_no("Yes, it is."), parse_yes_no("I know none"), parse_yes_no("yes and no")
    (Parsed(value=True), ParseFailure(reason='no_yes_or_no'), ParseFailure(reason='yes_and_no'))
    """
    if len(text) > MAX_ANSWER_CHARS:
        return ParseFailure("too_long")
    words = [(match[1] is not None, match[2].lower()) for match in _YES_OR_NO.finditer(text)]
    verdicts = {word for _, word in words}
    if len(verdicts) > 1:
        return ParseFailure("yes_and_no")
    if not verdicts or any(negated for negated, _ in words):
        return ParseFailure("no_yes_or_no")
    return Parsed(verdicts == {"yes"})


def parse_text(text: str) -> Parsed[str] | ParseFailure:
    """Read a short text answer as it stands, outer white space removed; or `too_long`, or `empty_answer`.

    >>> parse_text(" No Defect\\n"), parse_text("  ")
    (Parsed(value='No Defect'), ParseFailure(reason='empty_answer'))
    """
    if len(text) > MAX_ANSWER_CHARS:
        return ParseFailure("too_long")
    stripped = text.strip()
    return Parsed(stripped) if stripped else ParseFailure("empty_answer")


def normalize_text(text: str) -> str:
    """Make texts equal that differ only in case, in the amount of white space, or in full stops at the end.

    >>> normalize_text("  No   Defect. ")
    'no defect'
    """
    return " ".join(text.casefold().split()).rstrip(". ")
