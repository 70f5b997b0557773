"""Choices and other short texts, compared after a minimal normalisation."""

from __future__ import annotations

from vlm_r1.parsing.limits import MAX_ANSWER_CHARS
from vlm_r1.types import Parsed, ParseFailure


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
