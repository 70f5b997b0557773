"""A torchvision that does not fit torch: one line instead of a traceback, from commands and from Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from testing_commands import PATHS
from vlm_r1.pretrained.beside import broken_torchvision

RAISES = 'raise RuntimeError("operator torchvision::nms does not exist\\nand more")'
TOLD = "torchvision does not fit torch 2."
WHY = ": RuntimeError: operator torchvision::nms does not exist. Remove it, since most models do not need it: pip uni"


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a torchvision whose import raises what one for another torch raises."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "torchvision").mkdir()
    (folder / "torchvision/__init__.py").write_text(RAISES)
    return folder


BOTH = """
from vlm_r1.cli.main import main
print(main(["eval", "model", "data.jsonl"]))
import vlm_r1
vlm_r1.train
"""


def test_a_command_says_one_line_and_python_raises_the_same(broken: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{broken}{os.pathsep}{PATHS}"}
    command = [sys.executable, "-c", BOTH]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "2\n", "the exit status of a mistake that the user can mend"
    first, *_, last = done.stderr.splitlines()
    assert first.startswith(f"ModelError: {TOLD}")
    assert WHY in first
    assert last == f"vlm_r1.errors.{first}"
    assert done.stderr.splitlines()[1].startswith("Traceback"), "the command wrote nothing else"


def raised(file: str, name: str) -> BaseException:
    """The error of a function, or of a module, in this file."""
    call = ["raise ValueError('x')"] if name == "<module>" else [f"def {name}():", "    raise ValueError('x')"]
    scope: dict[str, Any] = {}
    try:
        exec(compile("\n".join(call), file, "exec"), scope)
        scope[name]()
    except ValueError as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("file", "name", "is_broken"),
    [
        pytest.param("/site/torchvision/__init__.py", "<module>", True, id="its import"),
        pytest.param("/site/torchvision/_meta_registrations.py", "<module>", True, id="the import of a part of it"),
        pytest.param("/site/torchvision/ops.py", "nms", False, id="its use in somebody's reward"),
        pytest.param("/site/other/__init__.py", "<module>", False, id="the import of another package"),
    ],
)
def test_only_an_import_of_torchvision_is_meant(file: str, name: str, is_broken: bool) -> None:
    error = raised(file, name)
    assert (broken_torchvision(error) is not None) == is_broken
    outer = ImportError("Could not import module")
    outer.__cause__ = error
    assert (broken_torchvision(outer) is not None) == is_broken
