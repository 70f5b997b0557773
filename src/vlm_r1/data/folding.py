"""Messages that repeat are folded into one, with their number and the first places where they stand."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

MAX_LISTED = 20
"""Number of messages that an error lists; the others are counted."""

MAX_PLACES = 5
"""Number of further places that a folded message names."""

_SHOWN_OF_A_KIND = 3
"""Number of different messages of one kind that are shown; if there are more, they are folded."""

_VARIES = re.compile(
    r"""^\S.*?(?=:\ (?:image\ |not\ an\ image))   # the path before a message about a picture
    |(?<=the\ gold\ answer\ ).*?(?=\ is\ no\ |\ scores\ )
    |"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'
    |(?<!\S)\S*/\S*
    |[-+]?\d[\d.,]*(?:[eE][-+]?\d+)?""",
    re.VERBOSE,
)
"""What differs between two messages of one kind: names, paths, texts in quotes and numbers."""

_BRACKETS = re.compile(r"[(\[{][^()\[\]{}]*[)\]}]")
_ROW = re.compile(r"(?P<file>.*):(?P<row>\d+)")


@dataclass(frozen=True)
class Place:
    """A message with its source, e.g. "train.jsonl:7"."""

    source: str
    message: str


def fold(places: Sequence[Place]) -> list[str]:
    """Format messages: each of the first `MAX_LISTED` on a line, repeated ones once, and the number of the others.

    Equal messages are folded into one. Messages that differ only in names, texts in quotes and numbers are of one kind,
    and are folded too if there are more than three.

    >>> fold([Place(f"a.jsonl:{n}", f"box {n} has no area") for n in range(1, 10)])
    ['a.jsonl:1: box 1 has no area', '    and 8 more like it: lines 2, 3, 4, 5, 6, …']
    """
    kinds = {message: _kind(message) for message in dict.fromkeys(place.message for place in places)}
    n_messages = Counter(kinds.values())
    groups: dict[tuple[str, bool], list[Place]] = {}
    for place in places:
        kind = kinds[place.message]
        is_folded = n_messages[kind] > _SHOWN_OF_A_KIND
        groups.setdefault((kind if is_folded else place.message, is_folded), []).append(place)
    shown = list(groups.values())[:MAX_LISTED]
    lines = [line for group in shown for line in _lines(group)]
    left = len(places) - sum(map(len, shown))
    return [*lines, f"… and {left:,} more, {len(places):,} in all"] if left else lines


def _kind(message: str) -> str:
    """The message without what varies; brackets are emptied from the inside, a few levels deep."""
    kind = _VARIES.sub("*", message)
    for _ in range(4):
        kind = _BRACKETS.sub("*", kind)
    return kind


def _lines(group: Sequence[Place]) -> list[str]:
    first, *others = group
    line = f"{first.source}: {first.message}"
    if not others:
        return [line]
    alike = "with the same message" if all(place.message == first.message for place in others) else "like it"
    return [line, f"    and {len(others):,} more {alike}: {_places(first, others)}"]


def _places(first: Place, others: Sequence[Place]) -> str:
    """The first few places: numbers of lines in the same file, or whole sources."""
    file = _file_of(first.source)
    shown = others[:MAX_PLACES]
    rest = ", …" if len(others) > MAX_PLACES else ""
    if file and all(_file_of(place.source) == file for place in shown):
        numbers = ", ".join(place.source.removeprefix(f"{file}:") for place in shown)
        return f"line{'s' * (len(others) > 1)} {numbers}{rest}"
    return f"{', '.join(place.source for place in shown)}{rest}"


def _file_of(source: str) -> str:
    found = _ROW.fullmatch(source)
    return found["file"] if found else ""
