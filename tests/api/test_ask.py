"""`vlm_r1.ask` is `vlm-r1 ask`: the same options, the same answers."""

from __future__ import annotations

import json

import pytest
from PIL import Image

import vlm_r1
from vlm_r1.cli.main import main
from vlm_r1.errors import ConfigError, DataError

ASKED = {"template": "direct", "max_completion_length": 8, "task": "vqa"}


@pytest.fixture
def photos(tmp_path):
    for name in ("a.png", "b.png"):
        Image.linear_gradient("L").resize((84, 56)).convert("RGB").save(tmp_path / name)
    return tmp_path


def test_answers_are_those_of_the_command(tiny_checkpoint, photos, capsys) -> None:
    answers = vlm_r1.ask(tiny_checkpoint, photos, ["what?", "a.png"], out=photos / "boxed", **ASKED)
    words = ["--template", "direct", "--max-completion-length", "8", "--task", "vqa", "--json", "--question", "a.png"]
    capsys.readouterr()
    assert main(["ask", str(tiny_checkpoint), str(photos / "a.png"), *words, str(photos / "b.png"), "what?"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    timeless = [row | {"seconds": 0} for row in rows]
    assert [answer.row | {"seconds": 0} for answer in answers] == timeless
    assert [answer.question for answer in answers] == ["what?", "a.png"] * 2
    assert sorted(path.name for path in (photos / "boxed").iterdir()) == ["a.png", "b.png"]
    assert answers[0]._repr_png_().startswith(b"\x89PNG")
    assert str(answers[0]) == answers[0].answer


def test_what_is_refused(tiny_checkpoint, photos) -> None:
    with pytest.raises(DataError, match="the dog: picture not found"):
        vlm_r1.ask(tiny_checkpoint, "the dog", "what?")
    with pytest.raises(ConfigError, match='ask\\(\\) has no option "serve"'):
        vlm_r1.ask(tiny_checkpoint, photos, "what?", serve=True)
    with pytest.raises(ConfigError, match="no question was given"):
        vlm_r1.ask(tiny_checkpoint, photos, [])
