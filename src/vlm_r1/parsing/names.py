"""Lists of names, as in detection questions: "cat, red car". A name that contains a comma is quoted."""

from __future__ import annotations

import re
from collections.abc import Sequence

COMMAS = ",，、"
"""Signs that separate names."""

_NAME = re.compile(
    rf'\s*(?:"(?P<quoted>(?:[^"]|"")*)"(?=\s*(?:[{COMMAS}]|$))|(?P<plain>[^{COMMAS}]*))\s*(?:[{COMMAS}]|$)'
)


def list_names(names: Sequence[str]) -> str:
    """Join names with commas; a name with a comma or a leading quote is quoted, and its own quotes are doubled.

    >>> list_names(["dog", "bowl, ceramic"])
    'dog, "bowl, ceramic"'
    """
    return ", ".join(f'"{name.replace(_QUOTE, _QUOTE * 2)}"' if needs_quotes(name) else name for name in names)


def needs_quotes(name: str) -> bool:
    """Return whether a name in a list would be misread without quotes."""
    return any(sign in name for sign in COMMAS) or name.startswith(_QUOTE)


def split_names(text: str) -> list[str]:
    """Split a list that `list_names` wrote into its names; empty names are left out.

    >>> split_names('dog, "bowl, ceramic"'), split_names('a 12" pizza,cat,')
    (['dog', 'bowl, ceramic'], ['a 12" pizza', 'cat'])
    """
    found: list[str] = []
    for match in _NAME.finditer(text):
        quoted = match["quoted"]
        found.append(match["plain"] if quoted is None else quoted.replace(_QUOTE * 2, _QUOTE))
    return [name for name in map(str.strip, found) if name]


_QUOTE = '"'
