"""Finds objects by name: in a table, which is a dict literal, or outside as `package.module:Name`.

`resolve` imports what it is asked for, so the names it is given must be the user's own: of a recipe or a command line.
Names out of data go through `name_from_data` first, where a row is read (docs/security.md).
"""

from __future__ import annotations

import ast
import difflib
import importlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from vlm_r1.errors import ConfigError, DataError

T = TypeVar("T")

LONGEST_NAME = 1000
"""Greatest number of characters of a name out of data, options included."""

LONGEST_PLAIN_NAME = 64
"""Greatest number of characters of a name that becomes a file name."""

_TAKES_OPTIONS = ("reward",)  # kinds of objects whose names may have options, e.g. iou_threshold(at=0.75)
_IN_RECIPES = ("reward",)  # kinds that a recipe may allow rows to name; others never stand in data files
_SHOWN = 100

NOT_IN_ROWS = ("reward_model",)
"""Names of our own tables that a row of data may not choose: they open the files of a model, or ask the Hub for it."""


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
    if is_outside(name):
        return _import(kind, name)
    if ":" in name:
        raise ConfigError(f"{kind} {quoted(name)} reads like no package.module:Name, e.g. my_package.rewards:Judge")
    raise ConfigError(
        f'unknown {kind} "{name:.{_SHOWN}}". {suggestion(name, table)}Known: {", ".join(sorted(table))}. '
        f"Your own: {kind}: my_package.module:Name"
    )


def is_outside(name: str) -> bool:
    """Return whether a name reads `package.module:Name`.

    >>> [is_outside(name) for name in ("a.b:C", "iou", ":", "a:", ".a:B", "a:B.c", "a b:C")]
    [True, False, False, False, False, False, False]
    """
    module, _, attribute = name.partition(":")
    return all(part.isidentifier() for part in (*module.split("."), attribute))


def split_options(name: str) -> tuple[str, dict[str, Any]]:
    """Split a name from its options, which are Python literals.

    Raises:
        ValueError: the options cannot be read; the message says why.

    >>> split_options("iou_threshold(at=0.75)"), split_options("iou")
    (('iou_threshold', {'at': 0.75}), ('iou', {}))
    """
    bare, bracket, rest = name.partition("(")
    if not bracket:
        return name, {}
    try:
        call = ast.parse(f"_({rest}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError("options are written name=value")
        given = [(keyword.arg, ast.literal_eval(keyword.value)) for keyword in call.keywords]
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"the options cannot be read: {error}; wanted e.g. iou_threshold(at=0.75)") from None
    options = {option: value for option, value in given if option is not None}
    if len(options) < len(given):
        raise ValueError("each option is written once, as name=value")
    return bare.strip(), options


def exactly(names: Iterable[str | None]) -> list[str]:
    """Return entries for `name_from_data` that allow names from outside with the options they have, and no others.

    >>> exactly(["my.rewards:Judge", "my.rewards:Judge(size=3)", "iou", None])
    ['my.rewards:Judge()', 'my.rewards:Judge(size=3)']
    """
    return [name if "(" in name else f"{name}()" for name in names if name and may_be_allowed(name)]


def may_be_allowed(name: str) -> bool:
    """Return whether a name reads `package.module:Name`, with or without options, or names a reward model with them."""
    try:
        bare, options = split_options(name)
    except ValueError:
        return False
    return is_outside(bare) or (bare in NOT_IN_ROWS and bool(options))


def name_from_data(kind: str, name: object, table: Collection[str], allowed: Sequence[str] = ()) -> str:
    """Check a name that stands in a row of data. Nothing is imported, since data comes from strangers.

    Args:
        kind: the kind of object, for messages, e.g. "reward".
        name: what the row holds, any JSON value.
        table: the names that every row may use.
        allowed: what the recipe or the command line allows besides: `package.module:Name` with any options, or with
            options, `package.module:Name(size=3)` or `package.module:Name()`, exactly these. Names of `NOT_IN_ROWS`
            are allowed with options only.

    Returns:
        The name. If an entry with options says the same, the entry as it is written, so that both make one object.

    Raises:
        DataError: it is no name of the table and not allowed. The message is short, and says how to allow it.

    >>> name_from_data("reward", "iou", ["iou"]), name_from_data("reward", "a:B( x=1 )", ["iou"], ["a:B(x=1)"])
    ('iou', 'a:B(x=1)')
    """
    if not isinstance(name, str):
        raise DataError(f"the {kind} is {quoted(name)}; wanted a name, as a text")
    if len(name) > LONGEST_NAME:
        raise DataError(f"the {kind} {quoted(name)} has {len(name):,} characters; wanted at most {LONGEST_NAME:,}")
    try:
        bare, options = split_options(name) if kind in _TAKES_OPTIONS else (name, {})
    except ValueError as error:
        raise DataError(f"the {kind} {quoted(name)}: {error}") from None
    if bare in table and bare not in NOT_IN_ROWS:
        return name
    for entry in allowed:
        if entry == bare and bare not in NOT_IN_ROWS:
            return name
        if "(" in entry and split_options(entry) == (bare, options):
            return entry
    if bare in table:
        raise DataError(
            f"the {kind} {quoted(name)} opens files or asks the Hub, and data may not choose them. If you trust it, "
            f"allow it: data.allowed_{kind}s in a recipe, or --allow-{kind}, with this text (docs/security.md)"
        )
    if is_outside(bare) and bare.isascii():
        recipe = f"data.allowed_{kind}s: ['{bare}'] in a recipe, " if kind in _IN_RECIPES else ""
        raise DataError(
            f"the {kind} {quoted(name)} is code, and data may not run code that only the data names. If you have it "
            f"and trust it, allow it: {recipe}--allow-{kind} {bare} on the command line (docs/security.md)"
        )
    raise DataError(
        f"unknown {kind} {quoted(name)}. {suggestion(bare, table)}Data may name {', '.join(sorted(table))}, and what "
        f"--allow-{kind} package.module:Name allows"
    )


def plain_name(name: str) -> str:
    """Return a name that may become a file name.

    Raises:
        ValueError: it is not of 1 to 64 letters, digits, `_`, `-` and `.`, or starts with `-` or `.`.
    """
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) is None or len(name) > LONGEST_PLAIN_NAME:
        raise ValueError(
            f"the name {ascii(name)[:100]} becomes a file name; wanted 1 to {LONGEST_PLAIN_NAME} letters, digits, _ - ."
        )
    return name


def as_plain_name(text: str) -> str:
    """Make a plain name of a text: what may not stand in one becomes `_`.

    >>> as_plain_name("held out.v2"), as_plain_name(".x")
    ('held_out.v2', '_x')
    """
    return re.sub(r"[^A-Za-z0-9_.-]|^[.-]", "_", text)[:LONGEST_PLAIN_NAME]


def quoted(value: object) -> str:
    """Format a value as JSON in ASCII, so that letters that only look like others show; cut to 100 characters."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = f'"{type(value).__name__}"'
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _import(kind: str, name: str):
    module_name, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (Exception, SystemExit) as error:  # code of other people may raise anything; its message is kept
        what = error if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {error}"
        raise ConfigError(
            f'{kind} "{name}" cannot be imported: {what}. Wanted package.module:Name of an installed package '
            "(or of a module in the current folder with PYTHONPATH=.)"
        ) from error
