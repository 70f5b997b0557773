"""The snippets of docs/serving.md ask a server: the picture arrives, and the box is in pixels of the original."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from testing_openai_server import Answer, Body, pictures_of, question_of, serve

PAGE = (Path(__file__).resolve().parents[1] / "docs/serving.md").read_text(encoding="utf-8")
ADDRESS = "http://localhost:8000/v1"


def snippet(language: str, word: str) -> str:
    """The one block of the page in this language that holds the word."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    [found] = [block for block in blocks if word in block]
    assert ADDRESS in found
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a picture of 1,300 x 900, larger than what the model sees."""
    Image.new("RGB", (1300, 900), "red").save(tmp_path / "picture.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def whole_picture(body: Body) -> Answer:
    """A model that writes the box of all that it sees, and another one in its thought."""
    width, height = pictures_of(body)[0].size
    return f"<think>[1, 2, 3, 4]</think><answer>[0, 0, {width}, {height}]</answer>", "stop", 9


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl(folder: Path) -> None:
    with serve(whole_picture) as server:
        server.model = "rec"
        script = snippet("bash", "curl").replace(ADDRESS, server.url)
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert "[0, 0, 1300, 900]" in json.loads(done.stdout)["choices"][0]["message"]["content"]
    assert question_of(server.bodies[0]) == "Please provide the bounding box of the red circle."


def test_python(folder: Path) -> None:
    names: dict[str, Any] = {}
    with serve(whole_picture) as server:
        server.model = "rec"
        exec(snippet("python", "urllib").replace(ADDRESS, server.url), names)
    sent = pictures_of(server.bodies[0])[0]
    assert sent.size == tuple(names["seen"]) == (1176, 812), "multiples of 28: 42 x 29 of them"
    assert sent.width * sent.height <= 1_003_520
    assert names["box"] == pytest.approx([0, 0, 1300, 900])
