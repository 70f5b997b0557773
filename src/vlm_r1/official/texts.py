"""How the original finds things in a text. Its patterns, as plain searches: the same results, in linear time."""

from __future__ import annotations

import re
from collections.abc import Iterator

ANSWER, END_ANSWER = "<answer>", "</answer>"
FENCE, END_FENCE = "```json", "```"

_LATER_NEWLINE = {mark: re.compile(rf"(?<=\s){mark}") for mark in ("\n", "\r")}


def between(text: str, opening: str, closing: str) -> Iterator[str]:
    """What stands between two marks, time after time: from an opening to the next closing, and on from there.

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
    """The contents of all answer tags: unlike `parsing.tags`, those inside the thinking too."""
    return list(between(text, ANSWER, END_ANSWER))


def first_answer(text: str) -> str:
    """The first answer, else the whole text; outer white space removed."""
    return (in_tags(text) or [text])[0].strip()


def last_answer(text: str) -> str:
    """The last answer, else the whole text; outer white space removed."""
    return (in_tags(text) or [text])[-1].strip()


def clean_text(text: str) -> str:
    """The last answer, else the whole text, in one line and lower case, without white space and full stops at its end.

    >>> clean_text("<answer> No\\nDefect.</answer>")
    'no defect'
    """
    text = (in_tags(text) or [text])[-1]
    for mark, after_space in _LATER_NEWLINE.items():
        text = after_space.sub("", text).replace(mark, " ")
    return text.strip().rstrip(".").lower()


def find_in_order(text: str, *patterns: str) -> tuple[int, int] | None:
    """Where the first pattern begins and the last one ends, if all stand in the text in this order, anything between.

    The same as one search for the patterns joined by `.*?`, but linear: each is looked for from where the one before
    it ended.

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
