"""Damage to sound inputs: values of a tree dropped, repeated or replaced by odd ones, and bytes cut or replaced."""

from __future__ import annotations

import copy
import io
import json
import math
import pickle
import re
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import strategies as st

DEEP, DEEPISH, DIGITS = "@deep@", "@deepish@", "@digits@"
"""Words that become 50,000 and 900 brackets and 5,000 digits in JSON or YAML, since no tree can hold them."""

ODD: list[Any] = [
    *(None, True, False, 0, -1, 5, 1.5, 10**19, 10**400, 10**5000, 1e308, -1e308, math.nan, math.inf),
    *(DEEP, DEEPISH, DIGITS, [10, 20, 5, 5], [[1, [2]]]),
    *("", " ", "x", "²", "٣", "-1", "1e999", "\ud83d", "\x00", "\x1b[31m", "[/x]", "../../x", "a" * 3000, "<image>"),
    *(
        "1,2,3,4",
        "[1, 2, 3, 4]",
        '{"a": 1}',
        "2001-99-99",
        "my:Thing",
        ":",
        "iou_threshold(at='x')",
        "file:///dev/zero",
    ),
    *([], {}, [[]], [None], [1, 2], ["x"], {"a": 1}, {"path": 5}, {"bytes": "x", "path": 5}, {"": []}),
]
KEYS = ["", "x", "²", "\ud83d", "id", "path", "bytes", "image", "bbox", "\x00", "[/x]", "a" * 300]

TAGS = [
    *("!!timestamp", "!!timestamp 2001-99-99 #", "!!binary", "!!binary x #", "!!binary [] #", "!!int", "!!int x #"),
    *("!!float", "!!float _ #", "!!int _ #", "!!int 0x #", "!!int :1 #", "!!bool", "!!null", "!!str", "!!str [] #"),
    *("!!map", "!!seq", "!!set", "!!omap", "!!pairs", "!!merge", "!!value", "!", "!own", "!<x>", "!!", "!!yaml"),
    *("!!python/object/apply:os.system", "!!python/name:os.system", "!!python/tuple", "!!python/none", "!!python/long"),
    *("&a", "*a #", "*b #", "<<: *a", "<<: [*a, *a]", "<<: 5", "<<: [5]", "? *a\n:", "? [1]\n:", "? {a: 1}\n:", "? &a"),
    *(
        "2001-99-99 #",
        "2001-01-01t99:99:99z #",
        "1:99 #",
        "= #",
        ".nan #",
        "|",
        ">9",
        "|0",
        "@",
        "`",
        "%a",
        "---",
        "...",
    ),
]
"""What is set before a value of YAML. A # leaves the value out."""


class CannotBeWrittenError(Exception):
    """The form of a file has no way to write a tree."""


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values of a tree, itself first."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(place for key, value in items for place in places(value, (*path, key)))]


@st.composite
def damaged_tree(draw: st.DrawFn, tree: Any) -> Any:
    """A tree with one to three changes."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(places(tree)))
        if not place:
            if draw(st.integers(0, 9)) == 0:
                tree = copy.deepcopy(draw(st.sampled_from(ODD)))
            continue
        parent = tree
        for key in place[:-1]:
            parent = parent[key]
        _change(draw, parent, place[-1])
    return tree


def _change(draw: st.DrawFn, parent: Any, key: Any) -> None:
    how = draw(
        st.sampled_from(["replace", "replace", "replace", "drop", "repeat", "rename", "wrap", "text", "any text"])
    )
    if how == "drop":
        del parent[key]
    elif how == "repeat" and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    elif how in ("rename", "repeat"):
        other = draw(st.sampled_from(KEYS))
        if isinstance(parent, dict):
            parent[other] = parent.pop(key) if how == "rename" else copy.deepcopy(parent[key])
    elif how == "wrap":
        parent[key] = draw(st.sampled_from([[parent[key]], {"a": parent[key]}, [parent[key]] * 3]))
    elif how == "text":
        parent[key] = _text(parent[key])
    elif how == "any text":
        parent[key] = draw(st.text(st.characters(exclude_categories=()), max_size=5))
    else:
        parent[key] = copy.deepcopy(draw(st.sampled_from(ODD)))


def _text(value: Any) -> str:
    try:
        return str(value)
    except ValueError:  # an integer of 5,000 digits
        return DIGITS


@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes with a piece cut off, lost, repeated or replaced."""
    start = draw(st.integers(0, len(content)))
    end = draw(st.integers(start, min(start + 40, len(content))))
    piece = draw(st.sampled_from([b"", content[start:end] * 2, b"\xff", b"\x00", b"[" * 2000, b'"', b"\xed\xa0\xbd"]))
    return content[:start] + piece + (b"" if draw(st.integers(0, 3)) == 0 else content[end:])


@st.composite
def tagged_yaml(draw: st.DrawFn, text: str) -> str:
    """YAML with one to three tags, anchors, aliases or merges before its values, or those of `--key=value` lines."""
    places = [match.end() for match in re.finditer(r"(?<=: )|(?<=- )|(?<==)|:$|^ *(?=\w)", text, re.MULTILINE)]
    chosen = sorted(draw(st.lists(st.sampled_from(places), min_size=1, max_size=3, unique=True)))
    pieces = [draw(st.sampled_from(TAGS)) for _ in chosen]
    if draw(st.booleans()):
        pieces[0] = "&a"
    for place, piece in reversed(list(zip(chosen, pieces, strict=True))):
        indent = text[text.rfind("\n", 0, place) + 1 : place]
        text = text[:place] + (f"{piece}\n{indent}" if indent.isspace() else f" {piece} ") + text[place:]
    return text


def written(name: str, tree: Any) -> bytes:
    """Write a tree in the form that a file's name says.

    Raises:
        CannotBeWrittenError: it has no place in that form, e.g. a column of texts and lists in Parquet.
    """
    suffix = name.rpartition(".")[2]
    if suffix in ("pkl", "p"):
        return pickle.dumps(tree, protocol=4)
    if suffix == "parquet":
        return _parquet(tree)
    if suffix == "yaml":
        return _raw(_yaml(tree))
    if suffix == "jsonl":
        lines = tree if isinstance(tree, list) else [tree]
        return b"".join(_raw(_json(line)) + b"\n" for line in lines)
    return _raw(_json(tree))


def _json(tree: Any) -> str:
    try:
        return json.dumps(tree)
    except ValueError as error:  # an integer of 5,000 digits, which only a pickle can hold
        raise CannotBeWrittenError from error


def _yaml(tree: Any) -> str:
    try:
        return yaml.safe_dump(tree)
    except (yaml.YAMLError, ValueError) as error:
        raise CannotBeWrittenError from error


def _raw(text: str) -> bytes:
    text = text.replace(f'"{DEEPISH}"', "[" * 900 + "]" * 900).replace(f"'{DEEPISH}'", "[" * 900 + "]" * 900)
    text = text.replace(f'"{DEEP}"', "[" * 50_000 + "]" * 50_000).replace(f'"{DIGITS}"', "9" * 5000)
    text = text.replace(f"'{DEEP}'", "[" * 3000 + "]" * 3000).replace(f"'{DIGITS}'", "9" * 5000)
    return text.encode("utf-8", "surrogatepass")


def _parquet(rows: Any) -> bytes:
    if not (isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)):
        raise CannotBeWrittenError
    buffer = io.BytesIO()
    try:
        pq.write_table(pa.Table.from_pylist(rows), buffer)
    except (pa.ArrowException, OverflowError, TypeError, ValueError, NotImplementedError) as error:
        raise CannotBeWrittenError from error
    return buffer.getvalue()
