"""The layer table of docs/architecture.md, the budgets and the bans, read off the syntax trees of the package."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest

from testing_sources import FUNCTIONS, PACKAGE, ROOT, SOURCES, functions_of, imports_of, parse, path_of

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_NESTING = 3
LONG_FUNCTIONS = {  # file::function → lines it may have: a training loop is read from top to bottom
    "grpo/trainer.py::train": 120,
}
MAX_PARAMETERS = 7
MAX_BY_POSITION = 5  # as many as mathematics takes in a known order: boxes, labels, their gold ones and a threshold
MANY_PARAMETERS = frozenset(  # file::function; may only shrink
    {
        "cli/demo.py::_recipe",
        "converters/counting.py::_line",
        "converters/detection.py::detection_line",
        "converters/ovdeval.py::_line",
        "policy/attention.py::PackedLayout.attend",
        "policy/attention.py::SharedPrefix.attend",
        "policy/attention.py::masked_attention",
        "policy/attention.py::shared_prefix_attention",
        "policy/kernels.py::_cpu_backward_once",
        "policy/kernels.py::_plain_backward",
        "policy/kernels.py::_varlen",
        "policy/kernels.py::_varlen_backward",
        "policy/kernels.py::attend",
        "policy/kernels.py::attend_backward",
        "rollouts/groups.py::sample_groups",
        "sampling/decoding.py::PrefixCache.attend",
        "tasks/judge.py::_judge_together",
        "testing/common.py::write_checkpoint",
        "training/trust.py::check_sampled",
    }
)
BROAD_EXCEPT_FILES = frozenset(  # files that may swallow the errors of third-party code
    {"conformance/suite.py"}  # adapters and models of other people are tried there; what they raise is a result
)


@dataclass(frozen=True)
class Layer:
    """Where a package stands: its row, counted from the bottom, and whether it may import its neighbours in the row."""

    row: int
    solitary: bool


def read_layers(markdown: str) -> dict[str, Layer]:
    """Package → layer, from rows such as `| 4 | tasks*, models* | … |`; * marks packages without neighbours."""
    rows = re.findall(r"^\| (\d+) \| ([\w*, ]+) \|", markdown, flags=re.MULTILINE)
    cells = [(int(row), name.strip()) for row, names in rows for name in names.split(",")]
    return {name.rstrip("*"): Layer(row, solitary=name.endswith("*")) for row, name in cells}


LAYERS = read_layers((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))


# A check takes a path relative to the package, e.g. "grpo/loss.py", and its syntax tree, and yields lines that say what
# is wrong. Each is tried on bad samples below.
Check = Callable[[str, ast.Module], Iterator[str]]


def package_of(path: str) -> str:
    """First name below the package: "grpo/loss.py" → "grpo", "types.py" → "types", "__main__.py" → "cli"."""
    name = path.split("/")[0].removesuffix(".py")
    return "cli" if name == "__main__" else name


def check_layers(path: str, tree: ast.Module, layers: Mapping[str, Layer] = LAYERS) -> Iterator[str]:
    own = package_of(path)
    if own not in layers and own != "__init__":
        yield f"{path}: {own} is not in the layer table of docs/architecture.md"
        return
    for line, name in imports_of(tree):
        if name.startswith("."):
            yield f"{path}:{line}: relative import; write the full name"
        parts = name.split(".")
        if parts[0] != PACKAGE or parts[1:] == ["__version__"]:
            continue
        target = parts[1] if len(parts) > 1 else "the whole package"
        if not may_import(own, target, layers):
            yield f"{path}:{line}: {own} may not import {target}"


def may_import(own: str, target: str, layers: Mapping[str, Layer]) -> bool:
    if own == target:
        return True
    if own not in layers or target not in layers:
        return False
    if layers[own].row == layers[target].row:
        return not layers[own].solitary
    return layers[own].row > layers[target].row


def check_function_length(path: str, tree: ast.Module) -> Iterator[str]:
    for name, node in functions_of(tree):
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        limit = LONG_FUNCTIONS.get(f"{path}::{name}", MAX_FUNCTION_LINES)
        if lines > limit:
            yield f"{path}:{node.lineno}: {name} has {lines} lines, wanted at most {limit}"


def parameters_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[list[str], list[str]]:
    """Names of the parameters that may be given by position, and of those by keyword only; the receiver is neither."""
    by_position = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    if by_position and by_position[0] in {"self", "cls", "ctx"}:
        del by_position[0]
    return by_position, [argument.arg for argument in node.args.kwonlyargs]


def many_parameters(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(qualified name, what is wrong) of every function that takes more than the budget allows."""
    for name, node in functions_of(tree):
        by_position, by_keyword = parameters_of(node)
        total = len(by_position) + len(by_keyword)
        if total > MAX_PARAMETERS:
            yield name, f"{total} parameters, wanted at most {MAX_PARAMETERS}"
        elif len(by_position) > MAX_BY_POSITION:
            yield name, f"{len(by_position)} parameters by position, wanted at most {MAX_BY_POSITION}"


def check_parameters(path: str, tree: ast.Module) -> Iterator[str]:
    for name, wrong in many_parameters(tree):
        if f"{path}::{name}" not in MANY_PARAMETERS:
            yield f"{path}: {name} has {wrong}"


BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)
SCOPES = (*FUNCTIONS, ast.ClassDef, ast.Lambda)


def nesting(node: ast.AST) -> int:
    """Deepest stack of blocks below `node`; an `elif` is as deep as its `if`, an inner function starts anew."""
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, SCOPES):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        deepest = max(deepest, nesting(child) + (isinstance(child, BLOCKS) and not is_elif))
    return deepest


def check_nesting(path: str, tree: ast.Module) -> Iterator[str]:
    for name, node in functions_of(tree):
        if nesting(node) > MAX_NESTING:
            yield f"{path}:{node.lineno}: {name} nests {nesting(node)} deep, wanted at most {MAX_NESTING}"


def check_prints(path: str, tree: ast.Module) -> Iterator[str]:
    if package_of(path) == "cli":
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"{path}:{node.lineno}: print outside cli/"


def check_excepts(path: str, tree: ast.Module) -> Iterator[str]:
    """A bare or broad except may add to an error, never swallow it: it must end in `raise`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler) or path in BROAD_EXCEPT_FILES:
            continue
        caught = "BaseException" if node.type is None else ast.unparse(node.type)
        if re.search(r"\b(Base)?Exception\b", caught) and not isinstance(node.body[-1], ast.Raise):
            yield f"{path}:{node.lineno}: bare or broad except"


def check_patches(path: str, tree: ast.Module) -> Iterator[str]:
    """Assigning to an attribute of an imported name changes other people's code."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = {alias.asname or alias.name.split(".")[0] for node in imports for alias in node.names}
    targets = [target for node in ast.walk(tree) if isinstance(node, ast.Assign) for target in node.targets]
    for target in targets:
        owner, *attributes = ast.unparse(target).split(".")
        if attributes and owner in imported:
            yield f"{path}:{target.lineno}: {ast.unparse(target)} is patched"


def check_patterns(path: str, tree: ast.Module) -> Iterator[str]:
    """A possessive group in a regular expression matches wrongly before Python 3.11.5 (gh-106052)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"\)[*+?]\+", node.value):
            yield f"{path}:{node.lineno}: possessive group"


LISTINGS = {"glob", "rglob", "iterdir", "listdir", "scandir"}
ORDER_FREE = {"sorted", "set", "frozenset", "min", "max", "any", "all", "sum", "len"}


def is_unordered(node: ast.AST) -> bool:
    """Whether an expression is plainly a set, or the files of a folder as the file system has them."""
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.BitOr | ast.BitAnd | ast.BitXor | ast.Sub) and any(
            is_unordered(side) or ast.unparse(side).endswith(".keys()") for side in (node.left, node.right)
        )
    called = ast.unparse(node.func).split(".")[-1] if isinstance(node, ast.Call) else ""
    return isinstance(node, ast.Set | ast.SetComp) or called in {"set", "frozenset", *LISTINGS}


def check_order(path: str, tree: ast.Module) -> Iterator[str]:
    """What is gone through in the order of a set, which differs from process to process, is written in that order."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) in ORDER_FREE]
    free = {id(argument) for call in calls for argument in call.args}
    for node in ast.walk(tree):
        taken: list[ast.expr] = []
        if isinstance(node, ast.For | ast.Starred):
            taken = [node.iter if isinstance(node, ast.For) else node.value]
        elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp) and id(node) not in free:
            taken = [part.iter for part in node.generators]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {
            "list",
            "tuple",
            "join",
            "fromkeys",
        }:
            taken = node.args
        yield from (f"{path}:{one.lineno}: order of {ast.unparse(one)}" for one in taken if is_unordered(one))


CHECKS: Mapping[str, Check] = {
    "layers": check_layers,
    "function length": check_function_length,
    "parameters": check_parameters,
    "nesting": check_nesting,
    "prints": check_prints,
    "excepts": check_excepts,
    "patches": check_patches,
    "patterns": check_patterns,
    "order": check_order,
}


@pytest.mark.parametrize("name", CHECKS)
def test_package(name):
    found = []
    for file in SOURCES:
        found += CHECKS[name](path_of(file), parse(file))
    assert not found, "\n".join(found)


def test_files_are_short():
    files = [file for folder in ("src", "tests", "benchmarks") for file in (ROOT / folder).rglob("*.py")]
    lengths = {file.relative_to(ROOT).as_posix(): len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_every_package_stands_in_the_table_and_nothing_else_does():
    here = {package_of(path_of(file)) for file in SOURCES} - {"__init__"}
    assert here == set(LAYERS)


def test_exceptions_to_the_budget_name_what_exists():
    for exception in LONG_FUNCTIONS:
        path, name = exception.split("::")
        assert name in dict(functions_of(parse(ROOT / "src" / PACKAGE / path))), exception


def test_no_exception_for_many_parameters_is_left_over():
    offenders = {f"{path_of(file)}::{name}" for file in SOURCES for name, _ in many_parameters(parse(file))}
    assert sorted(MANY_PARAMETERS - offenders) == [], "these keep to the budget now: take them off the list"


def test_the_bottom_layer_loads_no_torch():
    modules = ", ".join(f"{PACKAGE}.{name}" for name, layer in LAYERS.items() if layer.row == 0)
    code = f"import sys, {modules}; print(sorted({{'torch', 'transformers', 'numpy'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


TABLE = read_layers("| 2 | top |\n| 1 | left*, right*, free, other | … |\n| 0 | base | … |")


@pytest.mark.parametrize(
    ("path", "source", "allowed"),
    [
        pytest.param("top/a.py", "from vlm_r1.base.x import y", True, id="downwards"),
        pytest.param("base/a.py", "from vlm_r1.top import y", False, id="upwards"),
        pytest.param("base/a.py", "def f():\n    import vlm_r1.top.x", False, id="upwards, within a function"),
        pytest.param("base/a.py", "from vlm_r1 import top", False, id="upwards, from the root"),
        pytest.param("top/a.py", "from ..base import x", False, id="relative"),
        pytest.param("left/a.py", "import vlm_r1.right", False, id="starred neighbours"),
        pytest.param("free/a.py", "import vlm_r1.other", True, id="other neighbours"),
        pytest.param(
            "left/a.py", "import vlm_r1.left.b, torch, vlm_r1_plugin.top", True, id="own package and strangers"
        ),
        pytest.param("new/a.py", "", False, id="a package that the table lacks"),
        pytest.param("top/a.py", "import vlm_r1.new", False, id="imports what the table lacks"),
        pytest.param("top/a.py", "import vlm_r1", False, id="the whole package"),
        pytest.param("__init__.py", "from vlm_r1.base import x", False, id="the root imports nothing"),
    ],
)
def test_layers_are_told_apart(path, source, allowed):
    assert (not list(check_layers(path, ast.parse(source), TABLE))) == allowed


LONG = "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES
DEEP = "def f():\n  for a in b:\n    if a:\n      with a:\n        {}"


@pytest.mark.parametrize(
    ("check", "source", "allowed"),
    [
        pytest.param("function length", LONG, False, id="61 lines"),
        pytest.param("function length", LONG.removesuffix("    x = 1\n"), True, id="60 lines"),
        pytest.param("function length", "class A:\n" + re.sub("^", "  ", LONG, flags=re.M), False, id="a long method"),
        pytest.param("parameters", "def f(a, b, *, c, d, e, f, g, h): pass", False, id="eight parameters"),
        pytest.param("parameters", "def f(a, b, *, c, d, e, f, g): pass", True, id="seven parameters"),
        pytest.param("parameters", "def f(a, b, c, /, d, e, f): pass", False, id="six by position"),
        pytest.param("parameters", "class A:\n  def f(self, a, b, c, d, e, *, f): pass", True, id="a method"),
        pytest.param("nesting", DEEP.format("while a: pass"), False, id="four deep"),
        pytest.param("nesting", DEEP.format("pass"), True, id="three deep"),
        pytest.param("nesting", DEEP.format("try: pass\n        finally: pass"), False, id="a try is a block"),
        pytest.param("nesting", "def f():\n  if a: pass" + "\n  elif a: pass" * 4, True, id="elif"),
        pytest.param("prints", "def f(): print(1)", False, id="print"),
        pytest.param("prints", "pprint(1); x.print(1)", True, id="other prints"),
        pytest.param("excepts", "try: pass\nexcept: pass", False, id="bare"),
        pytest.param("excepts", "try: pass\nexcept Exception as e: pass", False, id="Exception"),
        pytest.param("excepts", "try: pass\nexcept (OSError, BaseException): pass", False, id="in a tuple"),
        pytest.param("excepts", "try: pass\nexcept (OSError, ValueError): pass", True, id="narrow"),
        pytest.param("excepts", "try: pass\nexcept Exception as e:\n  e.add_note(f)\n  raise", True, id="raised again"),
        pytest.param("patches", "import torch.nn as nn\nnn.Linear.forward = f", False, id="a library's method"),
        pytest.param("patches", "from a import B\ndef f():\n  B.x = 1", False, id="an imported class"),
        pytest.param("patches", "import a\nb = a.x\nself.y = b\nconfig.z = 1", True, id="own attributes"),
        pytest.param("patterns", 'p = re.compile(r"(?:ab?c)*+")', False, id="a possessive group"),
        pytest.param("order", "for a in {b.c for b in d}: f(a)", False, id="a set of names"),
        pytest.param("order", "x = [f(a) for a in b.keys() - c]", False, id="a difference of keys"),
        pytest.param("order", "x = {a: 1 for a in set(b)}", False, id="a dict out of a set"),
        pytest.param("order", "for a in b.glob('*'): f(a)", False, id="files unsorted"),
        pytest.param("order", "x = ', '.join({a, b})", False, id="joined"),
        pytest.param("order", "for a in sorted(set(b)): f(a)", True, id="sorted"),
        pytest.param("order", "x = {f(a) for a in set(b)}; y = any(a for a in {b, c})", True, id="no order needed"),
        pytest.param("order", "for a in dict.fromkeys(b): f(a)", True, id="in the order of its first occurrence"),
        pytest.param("patterns", 'p = rf"({x}[0-9]++)+ {y}?"', True, id="a possessive run in a group"),
    ],
)
def test_bad_code_is_found(check, source, allowed):
    assert (not list(CHECKS[check]("grpo/sample.py", ast.parse(source)))) == allowed


def test_printing_is_the_privilege_of_the_command_line():
    assert not list(check_prints("cli/main.py", ast.parse("print(1)")))


def test_the_table_is_read_as_written():
    assert TABLE["left"] == Layer(1, solitary=True)
    assert TABLE["free"] == Layer(1, solitary=False)
    assert LAYERS["tasks"] == Layer(4, solitary=True), "docs/architecture.md lost its stars or its rows"


def test_the_help_of_commands_loads_no_large_library():
    large = {"torch", "transformers", "numpy", "pydantic", "rich", "yaml", "PIL"}
    code = f"import sys, vlm_r1.cli.main as main; main.make_parser(); print(sorted({large} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
