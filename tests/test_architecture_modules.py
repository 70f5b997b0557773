"""How modules hang together."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import PurePosixPath

import pytest

from testing_sources import PACKAGE, SOURCES, imports_of, parse, path_of


def dotted(path: str) -> str:
    """Name of a module: "grpo/loss.py" → "vlm_r1.grpo.loss", "grpo/__init__.py" → "vlm_r1.grpo"."""
    return ".".join([PACKAGE, *PurePosixPath(path).with_suffix("").parts]).removesuffix(".__init__")


def import_circles(trees: Mapping[str, ast.Module]) -> list[list[str]]:
    """Modules that import one another, directly or round several corners: a list of dotted names for each circle.

    A package that is imported for one of its names counts as its `__init__`, or as the module of that name.
    """
    targets = {
        name: sorted({known for _, target in imports_of(tree) for known in named(target, trees)} - {name})
        for name, tree in trees.items()
    }
    circles, done = [], set[str]()
    for start in sorted(targets):
        path, stack = [start], [iter(targets[start])]
        while stack:
            step = next(stack[-1], None)
            if step is None:
                done.add(path.pop())
                stack.pop()
            elif step in path:
                circles.append([*path[path.index(step) :], step])
            elif step not in done:
                path.append(step)
                stack.append(iter(targets[step]))
    return circles


def named(target: str, trees: Mapping[str, ast.Module]) -> list[str]:
    """The module that `import target` or `from … import target` runs first and depends on: the longest known prefix."""
    while target and target not in trees:
        target = target.rpartition(".")[0]
    return [target] if target else []


def test_modules_import_one_another_in_one_direction():
    assert not import_circles({dotted(path_of(file)): parse(file) for file in SOURCES})


@pytest.mark.parametrize(
    ("sources", "circles"),
    [
        pytest.param({"a": "import a.b", "a.b": "from a.c import x", "a.c": ""}, 0, id="a chain"),
        pytest.param({"a": "", "a.b": "from a.c import x", "a.c": "from a.b import y"}, 1, id="two modules"),
        pytest.param({"a": "", "a.b": "from a import c", "a.c": "def f():\n  import a.b"}, 1, id="in a function"),
        pytest.param({"a": "from a.b import x", "a.b": "from a.c import y", "a.c": "from a import z"}, 1, id="round"),
        pytest.param({"a": "from a.b import x", "a.b": "from a import x"}, 1, id="a package and its module"),
    ],
)
def test_circles_are_found(sources, circles):
    assert len(import_circles({name: ast.parse(source) for name, source in sources.items()})) == circles
