"""The site of the documentation: every page is in it, every link leads somewhere, nothing comes from elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOVED = ("docs", "examples", "recipes", "src", "tests", "benchmarks")
"""Folders that pages link to."""


def build(root, out):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    done = build(ROOT, out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return out


def test_every_page_is_there(site):
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / ("pages.html" if page.stem == "README" else f"{page.stem}.html")).is_file()
    assert 'id="your-own-data"' in (site / "index.html").read_text("utf-8")
    assert ">def<" in (site / "source/examples/grpo_by_hand.py.html").read_text("utf-8")


def test_links_stay_in_the_site(site):
    broken = []
    for page in site.rglob("*.html"):
        if page.name == "404.html":  # its links start at the site's root, wherever it is shown
            continue
        for target in re.findall(
            r'(?:href|src)="(?!https?:|mailto:|data:|#|javascript:)([^"#?]+)', page.read_text("utf-8")
        ):
            if not (page.parent / target).exists():
                broken.append((page.name, target))
    assert broken == []


def test_nothing_is_loaded_from_elsewhere(site):
    for page in site.rglob("*.html"):
        assert re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="https?:', page.read_text("utf-8")) == [], page.name


@pytest.mark.parametrize("link", ["[a](missing.md)", "[a](data.md#no-such-heading)"])
def test_a_broken_link_fails(tmp_path, link):
    for name in ("mkdocs.yml", "mkdocs_hooks.py", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Dockerfile"):
        shutil.copy(ROOT / name, tmp_path / name)
    for name in MOVED:
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "docs").unlink()
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    with (tmp_path / "docs/data.md").open("a") as file:
        file.write(f"\n{link}\n")
    done = build(tmp_path, tmp_path / "out")
    assert done.returncode == 1
    assert "data.md" in done.stderr
