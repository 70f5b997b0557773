"""Rewards of answers that are short texts. If several gold answers are accepted, the best match counts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from rapidfuzz.distance import Indel, Levenshtein

from vlm_r1.parsing.normal_form import lower, normalize_text
from vlm_r1.parsing.numbers import parse_number
from vlm_r1.parsing.options import options_of, read_choice
from vlm_r1.rewards.base import RewardInput, unsuitable, wrong_option
from vlm_r1.rewards.math import judged_mathematics
from vlm_r1.types import Parsed

Text = str | int | float | tuple[str, ...]

_OPTION = re.compile(r"\(?[A-H](?:\Z|[.:)])")  # "B", "(B)", "B. the dog"; not "A red bus", nor "J. Smith"
_QUANTITY = re.compile(r"[^\w\s]{0,2}[0-9]")  # "3 apples", "$12"; not "Bus 42"
_FORMULA = re.compile(r"[0-9\\$^]")
_COMMAND = re.compile(r"\\[A-Za-z]++")
_WORD = re.compile(r"[^\W\d_]{2}")


def exact_match(given: RewardInput[Text]) -> float:
    """1 if the answer and a gold answer have the same normal form, without case and final full stops, else 0.

    Source: `all_match` of the original VLM-R1, for which "No  Defect" and "No Defect" differ.

    Raises:
        DataError: the record's gold answer is neither a text nor a number.
    """
    golds = _golds(given, "exact_match")
    return 0.0 if given.value is None else float(any(same_text(str(given.value), gold) for gold in golds))


def edit_ratio(given: RewardInput[Text]) -> float:
    """Similarity of two texts in [0, 1], without case, white space and final full stops.

    r = 1 − (insertions + deletions) / (|value| + |gold|), lengths in characters. Almost any text earns something, since
    one common letter is enough. Use `anls` if near misses should count but guesses should not. Source: the last step of
    the original VLM-R1's `default`.

    Raises:
        DataError: the record's gold answer is neither a text nor a number.
    """
    golds = _golds(given, "edit_ratio")
    return 0.0 if given.value is None else max(text_similarity(str(given.value), gold) for gold in golds)


def anls(given: RewardInput[Text], *, threshold: float = 0.5) -> float:
    """Normalised Levenshtein similarity: small reading errors still count, other answers do not.

    r = max over golds of 1 − d if d ≤ threshold else 0, in [0, 1]. Here d is the Levenshtein distance divided by the
    length of the longer text; both are in normal form, without case, and with single spaces. Source: ST-VQA, arXiv
    1905.13648, eq. 1 (ANLS is its mean over questions), which has d < threshold. Like the official scripts, with which
    results are reported, this keeps a similarity of exactly one half.

    Args:
        threshold: share of the characters that may be wrong.

    Raises:
        DataError: the record's gold answer is neither a text nor a number.
        ConfigError: `threshold` is out of range.
    """
    if not 0 <= threshold <= 1:
        raise wrong_option("anls", "threshold", threshold, "0 ≤ threshold ≤ 1")
    golds = _golds(given, "anls")
    return 0.0 if given.value is None else levenshtein_similarity(str(given.value), golds, threshold)


def default(given: RewardInput[Text]) -> float:
    """A reward in [0, 1] for mixed data; the kind of each gold answer chooses the comparison.

    The same text earns 1. Otherwise there are three cases. If the gold answer is one of the record's options, or looks
    like an option ("B", "B. the dog"), the same option earns 1 (`choice`). If it is a number or a formula, the same
    value earns 1 (`math`). For any other text the reward is `edit_ratio`.
    Source: `default` of the original VLM-R1, which reads only the last number of a text, and pays an edit ratio for a
    wrong number in words.

    Raises:
        DataError: the record's gold answer is neither a text nor a number.
    """
    golds = _golds(given, "default")
    return (
        0.0
        if given.value is None
        else max(_by_kind(given, str(given.value), gold, options_of(given.record)) for gold in golds)
    )


def same_text(a: str, b: str) -> bool:
    """Return whether two texts are equal after `normalize_text`.

    >>> same_text("No defect.", "no  Defect")
    True
    """
    return normalize_text(a) == normalize_text(b)


def levenshtein_similarity(value: str, golds: Sequence[str], threshold: float = 0.5) -> float:
    """The formula of `anls` for one text and the accepted ones.

    >>> levenshtein_similarity("Coca  Cola", ["coca-cola", "Pepsi"]), levenshtein_similarity("Fanta", ["Pepsi"])
    (0.8888888888888888, 0.0)
    """
    value = " ".join(lower(value).split())
    distance = min(Levenshtein.normalized_distance(value, " ".join(lower(gold).split())) for gold in golds)
    return 1.0 - distance if distance <= threshold else 0.0


def text_similarity(a: str, b: str) -> float:
    """The ratio of `edit_ratio`; 1 for two empty texts.

    >>> text_similarity("red bus", "A red bus.")
    0.875
    """
    return Indel.normalized_similarity(normalize_text(a), normalize_text(b))


def _by_kind(given: RewardInput[Text], value: str, gold: str, options: Mapping[str, str]) -> float:
    if same_text(value, gold):
        return 1.0
    option = read_choice(gold, options)
    if (options or _OPTION.match(gold)) and isinstance(option, Parsed):
        return float(read_choice(value, options) == option)
    return judged_mathematics(given, gold, value) if _is_mathematics(gold) else text_similarity(value, gold)


def _is_mathematics(gold: str) -> bool:
    """Return whether a text is a number with or without its unit, or a formula without words."""
    if _QUANTITY.match(gold) and isinstance(parse_number(gold), Parsed):
        return True
    return bool(_FORMULA.search(gold)) and not _WORD.search(_COMMAND.sub("", gold))


def _golds(given: RewardInput[Text], name: str) -> tuple[str, ...]:
    """The accepted texts: one, or a tuple of them."""
    golds = given.gold if isinstance(given.gold, tuple) else (str(given.gold),)
    known = isinstance(given.gold, str | int | float | tuple)
    if not (known and golds and all(isinstance(gold, str) for gold in golds)):
        raise unsuitable(given, name, "short texts")
    return golds
