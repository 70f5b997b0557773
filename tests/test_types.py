"""Types are checked strictly but for a list of files, which may only become shorter."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))

MOST_EXCEPTIONS = 53
"""Files that say `pyright: standard`: most lean on libraries without types. Lower it whenever one becomes strict."""


def exceptions(sources):
    """Names of the texts that ask pyright for less than strict."""
    return [name for name, text in sources.items() if re.search(r"^# pyright: (standard|basic)", text, re.MULTILINE)]


def test_strict_is_the_default():
    pyright = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pyright"]
    assert pyright["typeCheckingMode"] == "strict"
    assert "ignore" not in pyright
    assert "exclude" not in pyright


def test_exceptions_become_fewer():
    found = exceptions({str(file): file.read_text(encoding="utf-8") for file in SOURCES})
    assert len(found) == MOST_EXCEPTIONS, "a new file is strict; when an old one becomes strict, lower the number"


def test_exceptions_are_found():
    assert exceptions({"a": "# pyright: standard\nx = 1", "b": "x = 1  # pyright: ignore", "c": ""}) == ["a"]
