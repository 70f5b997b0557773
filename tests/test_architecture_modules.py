"""How modules hang together: with one another, with the packages that pyproject.toml declares, and with the tests."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

import pytest
import yaml

from testing_sources import PACKAGE, ROOT, SOURCES, imports_of, parse, path_of


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


IMPORT_NAMES = {"pillow": "PIL", "pyyaml": "yaml"}  # packages whose module is not called as they are


def module_of(requirement: str) -> str:
    """Module that a requirement installs: "math-verify[antlr4-13-2]>=0.9" → "math_verify"."""
    name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()
    return IMPORT_NAMES.get(name, re.sub(r"[-.]", "_", name))


def third_party(trees: Iterable[ast.Module]) -> set[str]:
    """First names of all modules that are imported and are neither Python's nor the package itself."""
    names = {target.split(".")[0] for tree in trees for _, target in imports_of(tree)}
    return names - {"", PACKAGE} - sys.stdlib_module_names


def modules_of(requirements: Iterable[str]) -> set[str]:
    return {module_of(requirement) for requirement in requirements}


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NEEDED = modules_of(PROJECT["dependencies"])
EXTRAS = {name: modules_of(requirements) for name, requirements in PROJECT["optional-dependencies"].items()}


def test_every_dependency_is_imported():
    assert not NEEDED - third_party(map(parse, SOURCES))


def test_every_import_is_declared():
    optional = set[str]().union(*(modules for name, modules in EXTRAS.items() if name != "dev"))
    assert not third_party(map(parse, SOURCES)) - NEEDED - optional


def test_what_tests_and_benchmarks_import_is_declared():
    ours = {"benchmarks", "examples", *(path.stem for path in (ROOT / "tests").glob("*"))}  # files and folders
    files = [file for name in ("tests", "benchmarks", "examples") for file in (ROOT / name).rglob("*.py")]
    assert not third_party(map(parse, files)) - ours - NEEDED.union(*EXTRAS.values())


def test_the_hosted_workflow_tries_the_lower_bounds():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    (torch,) = (requirement for requirement in PROJECT["dependencies"] if module_of(requirement) == "torch")
    assert matrix["torch"] == [f"{torch.replace('>=', '==')}.*", torch]
    assert f">={matrix['python'][0]}" == PROJECT["requires-python"]


@pytest.mark.parametrize(
    ("requirement", "source", "unused", "undeclared"),
    [
        pytest.param("scipy>=1.14", "import scipy.optimize as o, os, vlm_r1.types", set(), set(), id="both"),
        pytest.param("matplotlib>=3.9", "import math", {"matplotlib"}, set(), id="imported by nobody"),
        pytest.param("torch", "import torch, tokenizers", set(), {"tokenizers"}, id="undeclared"),
        pytest.param("peft", "def f():\n  from peft.tuners.lora import Linear", set(), set(), id="in a function"),
        pytest.param("PyYAML>=6", "from yaml import safe_load", set(), set(), id="a name of its own"),
        pytest.param("math-verify[antlr4-13-2]>=0.9,<0.10", "import math_verify", set(), set(), id="an extra"),
        pytest.param("trl==1.0; python_version<'3.14'", "import trl\nfrom . import x", set(), set(), id="a marker"),
    ],
)
def test_dependencies_are_told_apart(requirement, source, unused, undeclared):
    needed, imported = modules_of([requirement]), third_party([ast.parse(source)])
    assert (needed - imported, imported - needed) == (unused, undeclared)


TESTED_ELSEWHERE: Mapping[str, str] = {  # module → the test file that runs it; may only shrink
    "cli/answering.py": "cli/test_asking.py",
    "cli/config.py": "cli/test_commands.py",
    "cli/demo.py": "cli/test_commands.py",
    "cli/export.py": "export/test_model.py",
    "cli/sft.py": "flows/test_train.py",
    "data/json_text.py": "data/test_json_files.py",
    "geometry/candidates.py": "geometry/test_matching.py",
    "parsing/round_boxes.py": "parsing/test_boxes.py",
    "parsing/units.py": "parsing/test_numbers.py",
    "policy/rows.py": "policy/test_logprobs.py",
    "rewards/kept_output.py": "rewards/test_kept_state.py",
    "rewards/kept_torch.py": "rewards/test_kept_state.py",
    "rollouts/reward_check.py": "flows/test_trl_rewards.py",
    "testing/gemma3.py": "testing/test_tiny.py",
    "testing/gemma4.py": "testing/test_tiny.py",
    "testing/glm4v.py": "testing/test_tiny.py",
    "testing/idefics3.py": "testing/test_tiny.py",
    "testing/internvl.py": "testing/test_tiny.py",
    "testing/llava_onevision.py": "testing/test_tiny.py",
    "testing/qwen_vl.py": "testing/test_tiny.py",
    "training/bnb.py": "training/test_optimizer.py",
}


def mirrors(path: str) -> set[str]:
    """Test files named after a module or its package: for "data/formats/turns.py" also "data/test_formats.py"."""
    module = PurePosixPath(path).with_suffix("")
    package = module.parent
    files = (package / f"test_{module.name}", package / f"test_{package.name}", package.parent / f"test_{package.name}")
    return {f"{file}.py" for file in files}


def untested(sources: Mapping[str, ast.Module], tests: Mapping[str, ast.Module]) -> set[str]:
    """Modules that no test file is named after and of which no test imports a name, from them or from their package."""
    offered = {  # name that a package takes from a module → the same with the module's name
        f"{dotted(path)}.{target.rpartition('.')[2]}": target
        for path, tree in sources.items()
        if path.endswith("__init__.py")
        for _, target in imports_of(tree)
    }
    targets = {target for tree in tests.values() for _, target in imports_of(tree)}
    targets |= {offered[target] for target in targets & offered.keys()}
    imported = targets | {target.rpartition(".")[0] for target in targets}
    modules = {path for path in sources if not path.endswith(("__init__.py", "__main__.py"))}
    return {path for path in modules if mirrors(path).isdisjoint(tests) and dotted(path) not in imported}


def test_every_module_is_tested_where_one_looks_for_it():
    folder = ROOT / "tests"
    tests = {file.relative_to(folder).as_posix(): parse(file) for file in folder.rglob("*.py")}
    found = untested({path_of(file): parse(file) for file in SOURCES}, tests)
    assert sorted(found - TESTED_ELSEWHERE.keys()) == []
    assert sorted(TESTED_ELSEWHERE.keys() - found) == [], "these have tests where one looks now: take them off the list"
    assert not set(TESTED_ELSEWHERE.values()) - tests.keys()


@pytest.mark.parametrize(
    ("test", "source", "missing"),
    [
        pytest.param("a/b/test_c.py", "", set(), id="a file of its own"),
        pytest.param("a/b/test_b.py", "", set(), id="a file of its package"),
        pytest.param("a/test_b.py", "", set(), id="a file of its package, beside the package"),
        pytest.param("test_c.py", "", {"a/b/c.py"}, id="a file elsewhere"),
        pytest.param("a/test_x.py", "from vlm_r1.a.b.c import f", set(), id="a name of it is imported"),
        pytest.param("a/test_x.py", "from vlm_r1.a.b import c", set(), id="it is imported"),
        pytest.param("a/test_x.py", "from vlm_r1.a.b import offered", set(), id="a name that its package offers"),
        pytest.param("a/test_x.py", "from vlm_r1.a.b import other", {"a/b/c.py"}, id="another name of its package"),
    ],
)
def test_modules_without_tests_are_found(test, source, missing):
    package = ast.parse("from vlm_r1.a.b.c import offered\nother = 1")
    assert untested({"a/b/__init__.py": package, "a/b/c.py": ast.parse("")}, {test: ast.parse(source)}) == missing
