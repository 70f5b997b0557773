"""Read a choice with its options: a letter, the text of an option, or both if they agree.

An answer is split into the texts of options that it contains, separate letters outside those texts, and other words.
Long texts are found first, so that "red car" is not "red". The text of an option is not searched for letters: "Vitamin
C" is the text of option B, not the letter C.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from vlm_r1.parsing.choices import (
    IN_WORD,
    letters_in,
    numbered_options_in_problem,
    options_in_problem,
    parse_choice,
    without_letter,
)
from vlm_r1.parsing.limits import MAX_ANSWER_CHARS
from vlm_r1.parsing.normal_form import fold, normalize_text
from vlm_r1.types import Parsed, ParseFailure, Record

OPTIONS = "options"
"""Column of a record that lists the texts of its options, ["cat", "dog"], or names them, {"A": "cat", "B": "dog"}."""


_BARE = re.compile(r"\W*+(?:(?:option|choice|answer)\b\W*+)?(\w+)\W*+", re.IGNORECASE)
_ARTICLE = re.compile(r"(?:an?|the) +(?=\S)")
_MARKUP = re.compile(r"\\(?:boxed|text|mathrm|mathbf|textbf)\b|\\[()\[\]]|[*`${}]")
_DEGREES = re.compile(r" ?\^ ?\{? ?\\circ ?\}?")
_WORD = re.compile(r"[^\W_]+")
_PLACE = "\uffff"  # replaces the text of an option; no text in normal form contains it
_AFTER_LETTER = re.compile(
    r"\W*+(?:(?:option|choice|answer)\b\W*+)?([A-Za-z]|[0-9]{1,2})(\s*+(?:[.:)\]|,=]|[\-—](?=\s))+\s*+|\s++)(.+)",
    re.DOTALL | re.IGNORECASE,
)
_FILLERS = """
    a an the answer answers is are be it its that this these so thus therefore hence correct right best final my option
    options choice choose chosen pick select would should i think believe say s and which namely ie most likely of in
    for to as there shows show image picture photo one or either
    答案 选项 选择 选 是 为 正确 的 正确答案 正确答案是 答案是 答案为 应选 故选 所以
"""
_SAYS_NOTHING = frozenset(_FILLERS.split())  # words that mean nothing next to the text of an option
_EDGES = " \t\r\n.。:;,!?\"'()[]<>|"


@dataclass(frozen=True)
class _Options:
    """A record's options, prepared for reading answers.

    Attributes:
        letters: their names, e.g. {"A", "B"}.
        by_text: text in its form for comparison → letter; without texts that two options share.
        pattern: finds the texts of options, the longest first; None if there are no texts to find.
        names: finds letters in the texts of options with the word before them: "vitamin c".
    """

    letters: frozenset[str]
    by_text: Mapping[str, str]
    pattern: re.Pattern[str] | None
    names: re.Pattern[str] | None


def options_of(record: Record) -> Mapping[str, str]:
    """Return a record's options, letter → text: from its column `options`, else from its problem.

    Texts of the column may begin with their letters. `options_in_problem` describes options in a problem; these may
    also be numbered, if the gold answer names one of them. The result is empty if there are none.

    >>> dict(options_of(Record("1", "choice", "Which?\\nA. cat\\nB. dog", (), "B")))
    {'A': 'cat', 'B': 'dog'}
    """
    column = record.columns.get(OPTIONS)
    if isinstance(column, dict):
        return {letter.strip().upper(): str(text) for letter, text in column.items()}
    if isinstance(column, list):
        texts = dict(zip(string.ascii_uppercase, map(str, column), strict=False))
        return {letter: without_letter(text, letter) for letter, text in texts.items()}
    return options_in_problem(record.problem) or _numbered_options(record)


def _numbered_options(record: Record) -> Mapping[str, str]:
    """Return the numbered options of a problem; none if its numbers are for something else, e.g. statements."""
    options = numbered_options_in_problem(record.problem)
    return options if options and isinstance(read_choice(str(record.answer), options), Parsed) else {}


def read_choice(text: str, options: Mapping[str, str]) -> Parsed[str] | ParseFailure:
    """Read the one option that an answer names.

    Args:
        text: any text inside the answer tags.
        options: letter (or number) → text; empty: the options are not known, see `parse_choice`.

    Returns:
        Its letter; or a failure: `too_long`, `no_choice`, `several_choices` (different letters, or a letter and the
        text of another option), or `not_among_options` (a letter that no option has).

    >>> options = {"A": "Vitamin A", "B": "Vitamin C", "C": "a cat"}
    >>> read_choice("Vitamin C", options), read_choice("(B) Vitamin C", options), read_choice("The cat.", options)
    (Parsed(value='B'), Parsed(value='B'), Parsed(value='C'))
    >>> read_choice("C. Vitamin C", options), read_choice("C", options), read_choice("E", options)
    (ParseFailure(reason='several_choices'), Parsed(value='C'), ParseFailure(reason='not_among_options'))
    """
    if not options:
        return parse_choice(text)
    if len(text) > MAX_ANSWER_CHARS:
        return ParseFailure("too_long")
    known = _prepare(tuple(options.items()))
    plain = _plain(text)
    bare = _BARE.fullmatch(plain)
    if bare and bare[1].upper() in known.letters:
        return Parsed(bare[1].upper())
    named = known.by_text.get(_comparable(plain))
    return Parsed(named) if named else _read_mixed(plain, known)


def _read_mixed(plain: str, known: _Options) -> Parsed[str] | ParseFailure:
    after = _AFTER_LETTER.fullmatch(plain)
    if after and after[1].upper() in known.letters:
        letter, named = after[1].upper(), known.by_text.get(_comparable(after[3]))
        if named == letter:
            return Parsed(letter)
        if named and (after[2].strip() or letter != "A"):  # "A dog" may be an article and the text of another option
            return ParseFailure("several_choices")
    masked, texts = _mask_options(plain, known)
    letters = _letters(masked, known)
    words = {word.lower() for word in _WORD.findall(masked.replace(_PLACE, " "))}
    is_bare = words <= _SAYS_NOTHING | {letter.lower() for letter in letters}
    found = letters | texts if is_bare or not letters else letters
    if not letters and not is_bare:
        return ParseFailure("no_choice")
    if len(found) != 1:
        return ParseFailure("several_choices" if found else "no_choice")
    (letter,) = found
    return Parsed(letter) if letter in known.letters else ParseFailure("not_among_options")


def _letters(masked: str, known: _Options) -> set[str]:
    """Separate letters, without an A that is the article of an option's text ("a dog", "A dog is")."""
    letters = letters_in(re.sub(rf"\b[Aa] +(?={_PLACE})", "", masked) if _PLACE in masked else masked)
    numbers = {word for word in _WORD.findall(masked) if word in known.letters and word.isdigit()}
    return {letter for letter in letters if not (letter == "I" and "I" not in known.letters)} | numbers


def _mask_options(plain: str, known: _Options) -> tuple[str, set[str]]:
    """Replace each text of an option in the answer by a mark; returns the answer and the options found."""
    texts: set[str] = set()

    def mark(match: re.Match[str]) -> str:
        texts.add(known.by_text[_comparable(match[0])])
        return f" {_PLACE} "

    masked = known.pattern.sub(mark, plain) if known.pattern else plain
    return (known.names.sub(" ", masked) if known.names else masked), texts


@lru_cache(maxsize=64)  # the completions of a group share their options
def _prepare(options: tuple[tuple[str, str], ...]) -> _Options:
    letters = frozenset(letter for letter, _ in options)
    texts = [(letter, _comparable(_plain(text))) for letter, text in options]
    counts = [text for _, text in texts]
    by_text = {text: letter for letter, text in texts if text and counts.count(text) == 1}
    to_find = sorted((text for text in by_text if text.upper() not in letters), key=len, reverse=True)
    names = {name for _, text in options for name in _names(_plain(text))}
    return _Options(letters, by_text, _alternatives(to_find), _alternatives(sorted(names)))


def _names(text: str) -> Sequence[str]:
    """Single letters of an option's text with the words before them, e.g. "Vitamin C" in "a Vitamin C pill"."""
    return [match[0] for match in re.finditer(r"[^\W\d_]{2,} [A-Za-z]\b", text)]


def _alternatives(texts: Sequence[str]) -> re.Pattern[str] | None:
    """Make a pattern for any of the texts as whole words, in upper or lower case, with any white space."""
    if not texts:
        return None
    return re.compile("|".join(map(_whole_words, texts)), re.IGNORECASE)


def _whole_words(text: str) -> str:
    """Make a pattern for a text that is not inside a longer word or number: not "3" in "3.5", nor "5" in "-5"."""
    before = r"(?<![.,/\-+])" if text[0].isdigit() else ""
    after = r"(?![.,/][0-9]|%)" if text[-1].isdigit() else ""
    words = r"\s+".join(map(re.escape, text.split()))
    return rf"(?<!{IN_WORD}){before}{words}(?!{IN_WORD}|-{IN_WORD}){after}"


def _plain(text: str) -> str:
    """Return a text in normal form without the marks of formulas and of bold type."""
    return _MARKUP.sub("", _DEGREES.sub("°", fold(text)))


def _comparable(text: str) -> str:
    """Return the form in which texts of options are compared: no case, no article, no outer brackets and full stops."""
    normal = normalize_text(text).strip(_EDGES) or normalize_text(text)
    return _ARTICLE.sub("", normal, count=1) if _ARTICLE.match(normal) else normal
