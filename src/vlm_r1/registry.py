"""Finds objects by name: in a table, which is a dict literal, or outside as `package.module:Name`."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from vlm_r1.errors import ConfigError

T = TypeVar("T")


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `Did you mean "rec"? ` for the closest known name, or an empty string.

    >>> suggestion("rec2", ["rec", "ovd"])
    'Did you mean "rec"? '
    >>> suggestion("zzz", ["rec", "ovd"])
    ''
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f'Did you mean "{close[0]}"? ' if close else ""


def resolve(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Look up `name` in `table`, or import it if it reads `package.module:Name`.

    Args:
        kind: the kind of object, for the error message, e.g. "task".
        name: e.g. "rec" or "my_pkg.tasks:MyTask".
        table: the built-in objects by name.

    Returns:
        The object of that name.

    Raises:
        ConfigError: unknown name, or the plug-in cannot be imported.

    >>> resolve("number", "one", {"one": 1})
    1
    """
    if name in table:
        return table[name]
    if ":" in name:
        return _import(kind, name)
    raise ConfigError(
        f'unknown {kind} "{name}". {suggestion(name, table)}Known: {", ".join(sorted(table))}. '
        f"Your own: {kind}: my_package.module:Name"
    )


def _import(kind: str, name: str):
    module_name, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (
        Exception,
        SystemExit,
    ) as error:  # importing runs code of other people, which may raise anything; its message is kept
        what = error if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {error}"
        raise ConfigError(
            f'{kind} "{name}" cannot be imported: {what}. Wanted package.module:Name of an installed package '
            "(or of a module in the current folder with PYTHONPATH=.)"
        ) from error
