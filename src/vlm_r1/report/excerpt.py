"""Make foreign text fit to be shown: limited in length and without invisible characters. The template escapes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vlm_r1.runtime.text import visible


@dataclass(frozen=True)
class Excerpt:
    """A shortened text: its `head` and, if it is too long, the number of characters `left_out` before its `tail`."""

    head: str
    left_out: int = 0
    tail: str = ""

    @property
    def short(self) -> str:
        """The first words, on one line."""
        line = " ".join(self.head.split())
        return line if len(line) <= 110 and not self.left_out else line[:110] + "…"

    @property
    def fits(self) -> bool:
        """True if the text is one short line, so that there is nothing to unfold."""
        return not self.left_out and "\n" not in self.head.strip() and len(self.head) <= 110


CONTEXT_LIMIT = 600  # characters of the messages before a question that are shown


def context_of(messages: Iterable[Mapping[str, str]]) -> Excerpt | None:
    """Return the messages before a question, a line for each; None if there are none.

    >>> context_of([{"role": "system", "content": "Be brief."}])
    Excerpt(head='system: Be brief.', left_out=0, tail='')
    """
    lines = [f"{one['role']}: {one['content'].replace('<image>', ' ').strip()}" for one in messages]
    return excerpt("\n".join(lines), CONTEXT_LIMIT) if lines else None


def excerpt(text: str, limit: int) -> Excerpt:
    """Shorten a text to `limit` characters: three quarters from the start, a quarter from the end, where answers are.

    >>> excerpt("short", 8)
    Excerpt(head='short', left_out=0, tail='')
    >>> excerpt("abcdefghijkl", 8)
    Excerpt(head='abcdef', left_out=4, tail='kl')
    >>> excerpt("a" + chr(0) + chr(0x202E), 8).head
    'a␀\\\\u202e'
    """
    if len(text) <= limit:
        return Excerpt(visible(text))
    tail = limit // 4
    return Excerpt(visible(text[: limit - tail]), len(text) - limit, visible(text[-tail:]))
