"""The original's searches in a text: its patterns as plain searches, with the same results in linear time."""

from __future__ import annotations

import re
from collections.abc import Iterator

ANSWER, END_ANSWER = "<answer>", "</answer>"
FENCE, END_FENCE = "```json", "```"

_LATER_NEWLINE = {mark: re.compile(rf"(?<=\s){mark}") for mark in ("\n", "\r")}


def between(text: str, opening: str, closing: str) -> Iterator[str]:
    """Yield the texts between two marks: from an opening to the next closing, and so on from there.

    >>> list(between("<a>1<a>2</a> <a>3</a> <a>4", "<a>", "</a>"))
    ['1<a>2', '3']
    """
    end = 0
    while (start := text.find(opening, end)) >= 0:
        start += len(opening)
        end = text.find(closing, start)
        if end < 0:
            return
        yield text[start:end]
        end += len(closing)


def in_tags(text: str) -> list[str]:
    """Return the contents of all answer tags; unlike in `parsing.tags`, also those inside the thinking."""
    return list(between(text, ANSWER, END_ANSWER))


def first_answer(text: str) -> str:
    """Return the first answer, else the whole text, without outer white space."""
    return (in_tags(text) or [text])[0].strip()


def last_answer(text: str) -> str:
    """Return the last answer, else the whole text, without outer white space."""
    return (in_tags(text) or [text])[-1].strip()


def clean_text(text: str) -> str:
    """Return the last answer, else the whole text, in one line and lower case, without final space and full stops.

    >>> clean_text("<answer> No\\nDefect.</answer>")
    'no defect'
    """
    text = (in_tags(text) or [text])[-1]
    for mark, after_space in _LATER_NEWLINE.items():
        text = after_space.sub("", text).replace(mark, " ")
    return text.strip().rstrip(".").lower()


def find_in_order(text: str, *patterns: str) -> tuple[int, int] | None:
    """Return where the first pattern begins and the last one ends, if all occur in this order; None if they do not.

    This gives the same as one search for the patterns joined by `.*?`, but in linear time: the search for each pattern
    begins where the previous one ended.

    >>> find_in_order("b a b c a", "a", "b", "c")
    (2, 7)
    """
    start = end = -1
    for pattern in patterns:
        found = re.compile(pattern).search(text, max(end, 0))
        if found is None:
            return None
        start, end = (found.start() if start < 0 else start), found.end()
    return start, end
