"""The options of multiple-choice rows in their many forms → a list of texts, or texts by letter."""

from __future__ import annotations

import ast
import json
import re
import string
import unicodedata
from collections.abc import Mapping
from typing import Any

from vlm_r1.data.formats.media import check_marks
from vlm_r1.data.formats.shown import shown
from vlm_r1.errors import DataError
from vlm_r1.parsing.json_values import is_object
from vlm_r1.types import AnswerValue

OPTIONS = "options"
"""The column from which the task `choice` reads the options."""

_SYNONYMS = ("choices", "option", "choice", "candidates", "alternatives", "option_list", "answer_choices")
_ONE_EACH = re.compile(r"(?:(?:option|choice)[_ ]?)?([A-Z])|(?:option|choice)[_ ]?([a-z])")
_TEXT_KEYS = ("text", "value", "content", "option")
_LETTER_KEYS = ("label", "letter", "key", "id")
_LONGEST = 20_000
_MENTIONS = re.compile(r"(?<![A-Za-z0-9])(?:\(([A-Za-z])\)|([A-Z])(?!['A-Za-z0-9_])|([a-z])[.):])")
_NUMBERS = re.compile(r"(?:^|[\s(（])([12])[.):、）]\s*\S")

Options = list[AnswerValue] | dict[str, AnswerValue]


def with_options(columns: Mapping[str, AnswerValue], problem: str, task: str) -> Mapping[str, AnswerValue]:
    """Return the columns with the record's options under `options`; for tasks other than `choice`, the columns as is.

    The options may be under `options` or a synonym (`choices`, `candidates`, …): as a list or an object, as the text of
    one (`"['cat', 'dog']"`), or as a text with one option on each line. Or each has its own key: `A`, `B`, … or
    `option_a`, …. Nulls are no options; the others keep their letters.

    Raises:
        DataError: `options` holds no options, or there are none at all and the problem does not name letters.
    """
    if task != "choice":
        return columns
    for key in (OPTIONS, *_SYNONYMS):
        found = read_options(columns.get(key))
        if found:
            check_marks(" ".join(map(str, found.values() if isinstance(found, dict) else found)), f'"{key}"')
            return {**columns, OPTIONS: found}
    lettered = {(m[1] or m[2]).upper(): value for key, value in columns.items() if (m := _ONE_EACH.fullmatch(key))}
    found = _numbered({letter: lettered[letter] for letter in sorted(lettered)}) if "A" in lettered else None
    if found:
        return {**columns, OPTIONS: found}
    if columns.get(OPTIONS) not in (None, "", []) and OPTIONS in columns and not _names_letters(problem):
        raise DataError(f'"options" is {shown(columns[OPTIONS])}; wanted a list of texts, or {{"A": text, "B": text}}')
    if not _names_letters(problem):
        raise DataError('task choice, but no options in the problem, nor under "options"; write them in one of these')
    return columns


def read_options(value: AnswerValue | tuple[AnswerValue, ...]) -> Options | None:
    """Read two or more options from a value; None if it does not hold them.

    >>> read_options("['cat', 'dog']"), read_options(["cat", None, "dog", None]), read_options("cat")
    (['cat', 'dog'], {'A': 'cat', 'C': 'dog'}, None)
    >>> read_options({"text": ["cat", "dog"], "label": ["A", "B"]})
    {'A': 'cat', 'B': 'dog'}
    """
    if isinstance(value, str):
        value = _parsed_text(value)
    if isinstance(value, dict):
        texts, letters = value.get("text"), value.get("label")
        if isinstance(texts, list) and isinstance(letters, list) and len(texts) == len(letters):
            value = dict(zip(map(str, letters), texts, strict=True))
        return _numbered(value)
    return _listed(value) if isinstance(value, list | tuple) else None


def _parsed_text(text: str) -> Any:
    """Parse a text as JSON, as a Python list, or as one option on each line; None if it is none of these."""
    text = text.strip()
    if len(text) > _LONGEST:
        return None
    if text[:1] in ("[", "{", "("):
        for read in (json.loads, ast.literal_eval):
            try:
                return read(text)
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines if len(lines) > 1 else None


def _listed(items: list[Any] | tuple[Any, ...]) -> Options | None:
    if len(items) > len(string.ascii_uppercase):
        return None
    pairs = [_pair(item, letter) for item, letter in zip(items, string.ascii_uppercase, strict=False)]
    by_letter = _numbered(dict(pairs))
    if by_letter is None or len({letter for letter, _ in pairs}) < len(pairs):
        return None
    in_order = list(by_letter) == list(string.ascii_uppercase[: len(by_letter)])
    return list(by_letter.values()) if in_order else by_letter


def _pair(item: Any, letter: str) -> tuple[str, Any]:
    """The letter and text of an item, which may be an object with both."""
    if not is_object(item):
        return letter, item
    own = next((item[key] for key in _LETTER_KEYS if isinstance(item.get(key), str)), letter)
    return own.strip().upper(), next((item[key] for key in _TEXT_KEYS if item.get(key) is not None), None)


def _numbered(options: Mapping[Any, Any]) -> dict[str, AnswerValue] | None:
    """The options that are not null, by letter; None if there are fewer than two, or one is neither text nor number."""
    present = {str(key).strip().upper(): value for key, value in options.items() if value not in (None, "")}
    if len(present) < 2 or not all(isinstance(value, str | int | float) for value in present.values()):
        return None
    return {letter: str(value) for letter, value in present.items()}


def _names_letters(problem: str) -> bool:
    """Return whether a problem names the letters of two or more options, including A and B, or numbers its options.

    >>> [_names_letters(text) for text in ("(A) cat (B) dog", "A or B?", "1. cat 2. dog", "Is it a cat?")]
    [True, True, True, False]
    """
    problem = unicodedata.normalize("NFKC", problem)  # full-width letters
    if {"1", "2"} <= {found[1] for found in _NUMBERS.finditer(problem)}:
        return True
    return {"A", "B"} <= {next(filter(None, found.groups())).upper() for found in _MENTIONS.finditer(problem)}
