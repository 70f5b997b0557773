"""Read choices, verdicts and other short texts from an answer.

A letter or word counts only if it is separate: not inside a word ("know"), a compound ("T-shirt"), a contraction
("I'm") or an abbreviation ("e.g."). Chinese and Japanese have no spaces, so their characters may be next to it.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from vlm_r1.parsing.limits import MAX_ANSWER_CHARS
from vlm_r1.parsing.normal_form import fold
from vlm_r1.parsing.units import is_unit
from vlm_r1.types import Parsed, ParseFailure

IN_WORD = r"[^\W\u3040-\u30ff\u3400-\u9fff]"
"""A character that continues a word of letters: letters, digits and _, but no kana and no ideographs."""

_ALONE_BEFORE = rf"(?<!{IN_WORD})(?<!{IN_WORD}['’\-])"
_ALONE_AFTER = rf"(?!{IN_WORD})(?!['’\-]{IN_WORD})"

_LETTER = re.compile(rf"{_ALONE_BEFORE}(?<![A-Za-z]\.)([A-Za-z]){_ALONE_AFTER}(?!\.[A-Za-z](?![A-Za-z]))")
_GOES_ON_AS_OPTION = re.compile(
    r"\S|\s*+\Z|[^\S\n]*+\n|\s++(?:and|or|is|was|as|because|since)\b|\s++[^\w\s]", re.IGNORECASE
)
_NUMBER_AND_WORDS = re.compile(r"[^\S\n]++[0-9][0-9.,]*+[%°]?[^\S\n]*+(\w*+)[^\S\n\-]*+-?(\w?)")
_NAMED_OPTION = re.compile(r"(?:option|choice)[\s:]*+\Z", re.IGNORECASE)
_ANSWERS = re.compile(r"(?:answer(?:\s++(?:is|would\s++be))?|choose|pick|select)[\s:*\"(\-–—]*+\Z", re.IGNORECASE)
_NEGATED = re.compile(r"\bnot\s++[(*]*+\Z", re.IGNORECASE)
_PRONOUN = re.compile(
    r"\s++(?:am|believe|can|cannot|can't|choose|could|did|do|don't|estimate|feel|go|guess|had|have|know|must|pick|"
    r"say|see|select|should|suppose|think|was|will|would)\b",
    re.IGNORECASE,
)
_REACH = 24  # characters before a letter that are searched for words such as "option"

_LETTERED_LINE = re.compile(r"^[ \t]*+\(?([A-Z])[.:)、][ \t]*+(\S.*)$", re.MULTILINE)
_LETTERED = re.compile(r"(?<![\w.])\(?([A-Z])[.:)、](?!\w\.)[ \t]*+(?=\S)")
_NUMBERED_LINE = re.compile(r"^[ \t]*+\(?([0-9]{1,2})[.:)、][ \t]*+([^\s0-9].*|[0-9]+[^.0-9].*|[0-9]+)$", re.MULTILINE)
_NUMBERED = re.compile(r"(?<![\w.])\(?([0-9]{1,2})[.:)、](?![0-9])[ \t]*+(?=\S)")
_MOST_NUMBERED = 20

_YES_OR_NO = re.compile(rf"{_ALONE_BEFORE}(?:(not)\s++)?(yes|no){_ALONE_AFTER}", re.IGNORECASE)


def parse_choice(text: str) -> Parsed[str] | ParseFailure:
    """Read the one option letter of an answer: B of `B`, `(b)`, `B.`, `B) cat`, `\\boxed{B}`, `I think it is B`.

    Separate capital letters count, except an A or I that may be a word ("A cat", "I think"). Such an A or I, and small
    letters, count in three cases: before punctuation, signs or a number ("A - cat", "A (cat)", "A 45°"); before a
    line's end or a word that cannot follow an article ("A or", "A is"); and after "option" or "choice". A capital A or
    I also counts after "answer" ("The answer is A cat"). The texts of options are not compared; if they are known,
    `parsing.options.read_choice` does that.

    Returns:
        A capital letter; or a failure: `too_long`, `no_choice` or `several_choices` (different ones).

    >>> parse_choice("(B) the dog"), parse_choice("A or B?"), parse_choice("A dog")
    (Parsed(value='B'), ParseFailure(reason='several_choices'), ParseFailure(reason='no_choice'))
    """
    if len(text) > MAX_ANSWER_CHARS:
        return ParseFailure("too_long")
    letters = letters_in(text)
    if not letters:
        return ParseFailure("no_choice")
    return Parsed(letters.pop()) if len(letters) == 1 else ParseFailure("several_choices")


def letters_in(text: str) -> set[str]:
    """Return the option letters of a text, as capitals, by the rule of `parse_choice`."""
    return {match[1].upper() for match in _LETTER.finditer(text) if _is_option(text, match)}


def _is_option(text: str, letter: re.Match[str]) -> bool:
    before, end = text[max(0, letter.start() - _REACH) : letter.start()], letter.end()
    if _NEGATED.search(before):
        return False
    if letter[1].isupper() and letter[1] not in "AI":
        return True
    if _NAMED_OPTION.search(before):
        return True
    number = _NUMBER_AND_WORDS.match(text, end)
    if number:  # "A 45 cm", but "A 3 year old boy" and "A 12-inch pizza"
        return not number[2] and (not number[1] or is_unit(number[1]))
    if _GOES_ON_AS_OPTION.match(text, end):
        return True
    return (
        letter[1].isupper() and bool(_ANSWERS.search(before)) and not (letter[1] == "I" and _PRONOUN.match(text, end))
    )


@lru_cache(maxsize=64)  # the completions of a group share their problem
def options_in_problem(problem: str) -> Mapping[str, str]:
    """Find the options that a problem itself lists: letter → text in normal form; empty if it lists none.

    There must be at least two. They are lines that begin with their letter, "A. cat", "A) cat", "A: cat", "A、cat" or
    "(A) cat", in order from A on. Without such lines, they may follow one another in one line: "(A) cat (B) dog".

    >>> options_in_problem("Which?\\nA. cat\\nB. dog"), options_in_problem("Which? (A) cat (B) dog")
    ({'A': 'cat', 'B': 'dog'}, {'A': 'cat', 'B': 'dog'})
    """
    folded = fold(problem)
    letters = string.ascii_uppercase
    lines = _in_order(((match[1], match[2].strip()) for match in _LETTERED_LINE.finditer(folded)), letters)
    in_a_line = (_options_in_line(line, _LETTERED, letters) for line in folded.splitlines())
    return lines or max(in_a_line, key=len, default=dict[str, str]())


@lru_cache(maxsize=64)
def numbered_options_in_problem(problem: str) -> Mapping[str, str]:
    """Like `options_in_problem`, for options that are numbered from 1 on: "1. cat", "2) dog", "(3) cow".

    >>> numbered_options_in_problem("Which? (1) cat (2) dog")
    {'1': 'cat', '2': 'dog'}
    """
    folded = fold(problem)
    numbers = [str(number) for number in range(1, _MOST_NUMBERED + 1)]
    lines = _in_order(((match[1], match[2].strip()) for match in _NUMBERED_LINE.finditer(folded)), numbers)
    in_a_line = (_options_in_line(line, _NUMBERED, numbers) for line in folded.splitlines())
    return lines or max(in_a_line, key=len, default=dict[str, str]())


def _options_in_line(line: str, marked: re.Pattern[str], names: Sequence[str]) -> dict[str, str]:
    starts: list[re.Match[str]] = []
    for match in marked.finditer(line):
        if len(starts) < len(names) and match[1] == names[len(starts)]:
            starts.append(match)
    ends = [*[match.start() for match in starts[1:]], len(line)][: len(starts)]
    texts = ((match[1], line[match.end() : end].strip(" \t,;")) for match, end in zip(starts, ends, strict=True))
    return _in_order(texts, names)


def _in_order(texts: Iterable[tuple[str, str]], names: Sequence[str]) -> dict[str, str]:
    """Keep the texts whose names are in order from the first on; empty if there are fewer than two."""
    options: dict[str, str] = {}
    for name, text in texts:
        if text and len(options) < len(names) and name == names[len(options)]:
            options[name] = text
    return options if len(options) > 1 else {}


def without_letter(text: str, letter: str) -> str:
    """Remove the letter at the beginning of an option's text, if it is its own letter.

    >>> without_letter("(B) dog", "B"), without_letter("B. Anthony", "A")
    ('dog', 'B. Anthony')
    """
    match = _LETTERED_LINE.fullmatch(fold(text).strip())
    return match[2] if match and match[1] == letter else text


def parse_yes_no(text: str) -> Parsed[bool] | ParseFailure:
    """Read a verdict: the word "yes" or the word "no", in upper or lower case, anywhere in the text.

    Returns:
        True for yes, False for no; or a failure: `too_long`, `no_yes_or_no` (also for "not yes"), or `yes_and_no`.

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
    """Read a short text answer without outer white space; or fail with `too_long` or `empty_answer`.

    >>> parse_text(" No Defect\\n"), parse_text("  ")
    (Parsed(value='No Defect'), ParseFailure(reason='empty_answer'))
    """
    if len(text) > MAX_ANSWER_CHARS:
        return ParseFailure("too_long")
    stripped = text.strip()
    return Parsed(stripped) if stripped else ParseFailure("empty_answer")
