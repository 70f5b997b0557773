"""Names in a row, as detection questions list them: "cat, red car". A name that holds a comma stands in quotes."""

from __future__ import annotations

import re
from collections.abc import Sequence

COMMAS = ",，、"
"""Signs that people put between names."""

_NAME = re.compile(
    rf'\s*(?:"(?P<quoted>(?:[^"]|"")*)"(?=\s*(?:[{COMMAS}]|$))|(?P<plain>[^{COMMAS}]*))\s*(?:[{COMMAS}]|$)'
)


def list_names(names: Sequence[str]) -> str:
    """Names with commas between them; one that holds a comma, or starts with a quote, in quotes, its own doubled.

    >>> list_names(["dog", "bowl, ceramic"])
    'dog, "bowl, ceramic"'
    """
    return ", ".join(f'"{name.replace(_QUOTE, _QUOTE * 2)}"' if needs_quotes(name) else name for name in names)


def needs_quotes(name: str) -> bool:
    """Whether a name in a list would be taken for several, or for another, without quotes."""
    return any(sign in name for sign in COMMAS) or name.startswith(_QUOTE)


def split_names(text: str) -> list[str]:
    """The names in a list, as `list_names` writes it; empty ones are left out.

    >>> split_names('dog, "bowl, ceramic"'), split_names('a 12" pizza,cat,')
    (['dog', 'bowl, ceramic'], ['a 12" pizza', 'cat'])
    """
    found = []
    for match in _NAME.finditer(text):
        quoted = match["quoted"]
        found.append(match["plain"] if quoted is None else quoted.replace(_QUOTE * 2, _QUOTE))
    return [name for name in map(str.strip, found) if name]


_QUOTE = '"'
