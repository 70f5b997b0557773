"""Reads YAML with bounds: no value larger than its text by aliases, and no key that stands twice."""

from __future__ import annotations

from typing import Any

import yaml

MAX_NODES = 100_000
"""Values in a text with its aliases written out. Nine levels of ten aliases would be a billion."""

NO_YAML = (yaml.YAMLError, ValueError, AttributeError, TypeError, RecursionError)
"""Exceptions of PyYAML on bad text: a date such as 2001-99-99 is a ValueError, a thousand brackets a RecursionError."""


def read_yaml(text: str) -> Any:
    """Read one YAML document as plain values.

    Raises:
        NO_YAML: it is not valid; a ValueError if a key stands twice in a mapping, an alias lies in what it stands for,
            or the values are more than `MAX_NODES`.

    >>> read_yaml("a: 1\\nb: 2\\na: 3")
    Traceback (most recent call last):
    ValueError: the key "a" stands twice, in lines 1 and 3
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is None:
        return None
    if (n := _size(root, {})) > MAX_NODES:
        raise ValueError(f"its aliases make {n:,} values; wanted at most {MAX_NODES:,}")
    constructor: Any = yaml.SafeLoader("")
    try:
        return constructor.construct_document(root)
    finally:
        constructor.dispose()


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Count the values at and below a node, and check the keys of its mappings.

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
    sizes[id(node)] = 1 + sum(_size(one, sizes) for one in inner)
    return sizes[id(node)]


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
