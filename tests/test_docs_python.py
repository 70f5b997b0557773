"""The snippets of docs/python.md run as they are printed, on a run of two steps in the place of the demo's."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vlm_r1.cli.main import main

PAGE = (Path(__file__).resolve().parents[1] / "docs/python.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_the_snippets_run(recipe, rec_files, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"training.max_steps": 2, "output_dir": str(tmp_path / "runs/demo")}
    options |= {"data.eval": {"held": {"path": str(rec_files["in_domain"])}}}
    assert main(["train", str(recipe(**options))]) == 0
    shutil.copytree(rec_files["in_domain"].parent, tmp_path / "runs/demo/start/data")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for snippet in SNIPPETS:
        exec(snippet.replace("120", "2"), names)  # the demo's last step
    assert len(names["rewards"]) == 2
    assert names["run"].path.name == "demo"
    assert len(SNIPPETS) == 5
    assert len(names["answers"]) == 12
    assert Path("boxed.png").exists()
    assert len(names["found"].samples) == names["found"].result["n"] == 12
    with Image.open("group.png") as picture:
        assert max(picture.size) >= 320
