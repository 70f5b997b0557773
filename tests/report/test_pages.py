"""The policy of a page names the script that is in it, and no other."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

import pytest

from vlm_r1.report.build import build_report
from vlm_r1.report.pages import page_template, script_hash


def test_the_policy_names_the_script_in_the_page(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text("")
    page = build_report(tmp_path).read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in page  # and no scripts of its own origin, as there are no files


@pytest.mark.parametrize("name", ["report.js", "answers.js"])
def test_scripts_are_no_templates(name: str):
    """A script that held braces of jinja, or the end of its element, would not be what the page runs."""
    text = (Path(page_template(name).filename or "")).read_text(encoding="utf-8")
    assert page_template(name).render() == text.rstrip("\n")
    assert "</script" not in text
    assert script_hash(name) == base64.b64encode(hashlib.sha256(text.rstrip("\n").encode()).digest()).decode()
