"""The Dockerfile copies files that are there, installs extras that exist, and says the Python that we ask for."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
COPIED = [word for line in re.findall(r"^COPY (.*) \S+$", TEXT, flags=re.MULTILINE) for word in line.split()]


def sent(name: str, ignore: str) -> bool:
    """Whether .dockerignore lets a name through: the last pattern that fits decides."""
    found = True
    for line in ignore.splitlines():
        pattern = line.removeprefix("!")
        if line and not line.startswith("#") and fnmatch(name, pattern):
            found = line.startswith("!")
    return found


@pytest.mark.parametrize("name", COPIED)
def test_what_is_copied_is_there_and_is_sent(name: str) -> None:
    assert (ROOT / name).exists()
    assert sent(name, (ROOT / ".dockerignore").read_text(encoding="utf-8"))


def test_nothing_else_is_sent() -> None:
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8")
    assert {path.name for path in ROOT.iterdir() if sent(path.name, ignore)} == set(COPIED)


def test_what_the_build_of_the_package_needs_is_copied() -> None:
    assert {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], "src", "constraints.txt"} <= set(COPIED)


def test_its_extras_exist() -> None:
    [extras] = re.findall(r"^ARG EXTRAS=(.*)$", TEXT, flags=re.MULTILINE)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


def test_torch_is_installed_first_with_the_tested_versions() -> None:
    installs = re.findall(r"pip install .*", TEXT)
    assert len(installs) == 2
    assert " torch " in installs[0]
    assert all("--constraint constraints.txt" in line for line in installs)
