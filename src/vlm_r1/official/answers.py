"""The original's rewards for short answers: choices, yes or no, numbers, texts, and its default."""

from __future__ import annotations

import re

from rapidfuzz.distance import Indel

from vlm_r1.official.gold import Gold
from vlm_r1.official.mathematics import verify
from vlm_r1.official.texts import clean_text, first_answer, last_answer

_CHOICE = re.compile(r"(?<![A-Z])[A-Z](?=[.,?!:;]|$)")
_HINTS = (
    *("答案", "选择", "正确", "是", "对", "认为", "应该", "觉得"),
    *("ANSWER", "CORRECT", "CHOOSE", "SELECT", "RIGHT", "THINK", "BELIEVE", "SHOULD"),
)
_HINT_CHARS = 20
_END_SHARE = 0.7


def mcq(completion: str, gold: Gold) -> float:
    """`mcq`: 1 if the first answer, or else the text, has the gold's letter (see `_choice`); else 0."""
    letter = _choice(first_answer(completion))
    return float(letter is not None and letter == (_choice(gold.inner) or gold.text.strip()))


def yes_no(completion: str, gold: Gold) -> float:
    """`yes_no`: 1 if the first "yes" or "no" is the same on both sides, or neither side has one; else 0.

    It searches inside words too, so "know" counts as no.
    """
    said = [re.search("yes|no", text.lower()) for text in (first_answer(completion.lower()), gold.inner)]
    return float((said[0] and said[0][0]) == (said[1] and said[1][0]))


def numeric(completion: str, gold: Gold) -> float | None:
    """`numeric`: 1 for the same number, 0 for another one; None if one of the two is not exactly one number."""
    try:
        return float(float(clean_text(completion)) == float(clean_text(gold.text)))
    except ValueError:
        return None


def all_match(completion: str, gold: Gold) -> float:
    """`all_match`: 1 for the same text without case, outer white space and final full stops; else 0."""
    return float(clean_text(completion) == clean_text(gold.text))


def default(completion: str, gold: Gold) -> float:
    """`default`: 1 for the same mathematics; otherwise the kind of the gold answer decides.

    If the gold has a digit: 1 for the same number, or the similarity of the texts if one side is no number. If
    `_choice` finds a letter in it: 1 for the same letter. Otherwise the similarity, 1 − insertions and deletions over
    the sum of the lengths.
    """
    answer, truth = last_answer(completion), gold.inner
    if verify(answer, truth):
        return 1.0
    similarity = Indel.normalized_similarity
    if re.search(r"\d", truth):
        same = numeric(answer, gold)
        return similarity(clean_text(answer), clean_text(truth)) if same is None else same
    letter = _choice(truth)
    if letter is not None:
        return float(_choice(answer) == letter)
    return similarity(clean_text(answer), clean_text(truth))


def _choice(text: str) -> str | None:
    """The letter that a text chooses: a single letter before punctuation or at the end, the one with most points.

    A letter gets points for each hint such as "answer" within 20 characters of its first occurrence, even inside a
    word; two points if it is in the last 30 % of the text; and one if a comma or a full stop follows.

    >>> _choice("The answer is b."), _choice("(A)"), _choice("A, or: B!")
    ('B', None, 'B')
    """
    text = re.sub(r"\s+", " ", text.upper())
    letters = list(dict.fromkeys(_CHOICE.findall(text)))
    return max(letters, key=lambda letter: _points(text, letter)) if letters else None


def _points(text: str, letter: str) -> int:
    at = text.find(letter)
    around = text[max(0, at - _HINT_CHARS) : at + _HINT_CHARS]
    hints = sum(hint in around for hint in _HINTS)
    followed = text[at + 1 : at + 2] in tuple("。.!！,，")
    return hints + 2 * (at > len(text) * _END_SHARE) + followed
