"""Every install line of messages and documents works in a clone: no release of ours is on a package index yet."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from vlm_r1.errors import install_line

ROOT = Path(__file__).parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
TEXTS = {
    path: path.read_text(encoding="utf-8")
    for folder, kind in (("src", "*.py"), ("docs", "*.md"), ("examples", "*"), ("recipes", "*.yaml"))
    for path in (ROOT / folder).rglob(kind)
    if path.is_file() and "__pycache__" not in path.parts
}


def test_no_line_asks_a_package_index_for_us() -> None:
    assert len(TEXTS) > 100
    assert [str(path) for path, text in TEXTS.items() if re.search(r"pip install .{0,9}vlm-r1", text)] == []


def test_every_extra_exists() -> None:
    named = {
        extra
        for text in TEXTS.values()
        for list_ in re.findall(r"install_line\(['\"]([\w-]+)|pip install -e ['\"]?\.\[([\w,-]+)\]", text)
        for extra in "".join(list_).split(",")
    }
    assert {"hub", "qlora", "tensorboard"} <= named <= EXTRAS.keys()


def test_the_line() -> None:
    assert install_line("hub") == "pip install -e '.[hub]'"
