"""Reads YAML with bounds: no value larger than its text by aliases, and no key that stands twice."""

from __future__ import annotations

from typing import Any

import yaml

MAX_NODES = 100_000
"""Values in a text with its aliases written out. Nine levels of ten aliases would be a billion."""

NO_YAML = (yaml.YAMLError, ValueError, AttributeError, TypeError, RecursionError)
"""Exceptions of PyYAML on bad text, e.g. TypeError for a list as a key, RecursionError for a thousand brackets."""

_KINDS = {f"tag:yaml.org,2002:{kind}": kind for kind in ("bool", "int", "float", "timestamp")}
"""Kinds of texts that PyYAML converts, by tag."""


def read_yaml(text: str) -> Any:
    """Read one YAML document as plain values.

    Raises:
        NO_YAML: it is not valid; a ValueError if a key stands twice in a mapping, an alias lies in what it stands for,
            a value is not of its tag's kind, or the values are more than `MAX_NODES`.

    >>> read_yaml("a: 1\\nb: 2\\na: 3")
    Traceback (most recent call last):
    ValueError: the key "a" stands twice, in lines 1 and 3
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        n = 0 if root is None else _size(root, {})
    except RecursionError as error:
        raise ValueError("its lists and mappings are nested too deeply") from error
    if root is None:
        return None
    if n > MAX_NODES:
        raise ValueError(f"its aliases make {n:,} values; wanted at most {MAX_NODES:,}")
    constructor: Any = yaml.SafeLoader("")
    try:
        return constructor.construct_document(root)
    finally:
        constructor.dispose()


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Count the values at and below a node, and check the keys of its mappings and the kinds of its texts.

    Args:
        sizes: the counts of nodes by id; 0 while a node is being counted.
    """
    if id(node) in sizes:
        if not sizes[id(node)]:
            raise ValueError(f"line {node.start_mark.line + 1}: an alias lies in what it stands for")
        return sizes[id(node)]
    sizes[id(node)] = 0
    inner: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        inner = [one for pair in node.value for one in pair]
    elif isinstance(node, yaml.SequenceNode):
        inner = node.value
    elif node.tag in _KINDS:
        _check_scalar(node)
    sizes[id(node)] = 1 + sum(_size(one, sizes) for one in inner)
    return sizes[id(node)]


def _check_scalar(node: yaml.Node) -> None:
    """Refuse a text that is not of its tag's kind: PyYAML's own errors, an AttributeError even, do not say where."""
    constructor: Any = yaml.SafeLoader("")
    try:
        constructor.construct_object(node)
    except (ValueError, AttributeError, LookupError) as error:
        where = f"line {node.start_mark.line + 1}"
        raise ValueError(f"{where}: {node.value!r:.100} is no {_KINDS[node.tag]}; put a text into quotes") from error
    finally:
        constructor.dispose()


def _check_keys(node: yaml.MappingNode) -> None:
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        line, name = key.start_mark.line + 1, (key.tag, key.value)
        if name in lines:
            where = f"lines {lines[name]} and {line}" if lines[name] != line else f"line {line}"
            raise ValueError(f'the key "{key.value:.100}" stands twice, in {where}')
        lines[name] = line
