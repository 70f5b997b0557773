"""The source files of the package as syntax trees, for the tests that read the code instead of running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "vlm_r1"
SOURCES = sorted((ROOT / "src" / PACKAGE).rglob("*.py"))


def path_of(file: Path) -> str:
    """Path of a source file relative to the package: "grpo/loss.py"."""
    return file.relative_to(ROOT / "src" / PACKAGE).as_posix()


@cache
def parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def imports_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import, inside functions and `if TYPE_CHECKING` too; dots where it is relative."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno, "." * node.level
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def functions_of(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """(qualified name, definition) of every function and method, inner ones too."""
    for node in ast.iter_child_nodes(tree):
        named = isinstance(node, (*FUNCTIONS, ast.ClassDef))
        if isinstance(node, FUNCTIONS):
            yield f"{prefix}{node.name}", node
        yield from functions_of(node, f"{prefix}{node.name}." if named else prefix)
