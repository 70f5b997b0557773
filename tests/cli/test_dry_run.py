"""`--dry-run`: what it says about images and about what trains, and what it refuses without any weights."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from vlm_r1.cli.main import main


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def pictures(picture, tmp_path) -> str:
    """A data file with images of 5 sizes; the median by area is 84 × 56."""
    lines = []
    for n, (width, height) in enumerate([(140, 84), (56, 56), (84, 56), (56, 112), (84, 56)]):
        turns = [{"from": "human", "value": "<image>the red circle"}, {"from": "gpt", "value": [4, 5, 40, 50]}]
        lines.append(json.dumps({"id": n, "image": picture(width, height), "conversations": turns}))
    path = tmp_path / "pictures.jsonl"
    path.write_text("\n".join(lines))
    return str(path)


def shown(capsys, path, *options: str) -> str:
    assert main(["train", str(path), "--dry-run", *options]) == 0
    return capsys.readouterr().out


def test_tokens_of_the_smallest_median_and_largest_image(recipe, pictures, capsys) -> None:
    """One token for 28 × 28 pixels."""
    path = recipe(**{"data.train": [{"path": pictures, "image_root": str(Path(pictures).parents[1])}]})
    images = re.findall(r"(smallest|median|largest) (\d+)×(\d+): (\d+) tokens", shown(capsys, path))
    assert images == [("smallest", "56", "56", "4"), ("median", "84", "56", "6"), ("largest", "140", "84", "15")]
    limited = shown(capsys, path, "--model.max_pixels=4000")
    tokens = [int(n) for n in re.findall(r": (\d+) tokens", limited)]
    assert tokens[0] == 4
    assert max(tokens) <= 4000 // 28**2


def test_no_images(recipe, tmp_path, capsys) -> None:
    turns = [{"from": "human", "value": "what is 2"}, {"from": "gpt", "value": "2"}]
    (tmp_path / "text.jsonl").write_text(json.dumps({"id": 1, "conversations": turns}))
    path = recipe(**{"data.train": [{"path": str(tmp_path / "text.jsonl"), "task": "vqa"}]})
    assert "smallest" not in shown(capsys, path)


def test_what_trains_without_weights(recipe, capsys) -> None:
    table = shown(capsys, recipe(), "--model.lora={r: 2, peft: {use_dora: true}}", "--model.freeze=[vision, language]")
    assert re.search(r"vision +[\d,]+ +– +frozen", table)
    assert re.search(r"language +[\d,]+ +– +frozen", table)
    # two layers 256 to 256 and 256 to 64, rank 2, and a magnitude for each output
    assert re.search(r"projector +[\d,]+ +1,984 +0\.001", table)
    assert 2 * (256 + 256) + 2 * (256 + 64) + (256 + 64) == 1984


@pytest.mark.parametrize(
    ("option", "message"),
    [
        pytest.param("--model.lora.peft={use_dorra: true}", 'Did you mean "use_dora"', id="option of peft"),
        pytest.param("--model.lora.target_modules=[q_prj]", 'Did you mean "q_proj"', id="target"),
        pytest.param("--model.lora.peft={modules_to_save: [visul]}", 'Did you mean "visual"', id="module to save"),
    ],
)
def test_what_lora_cannot_do_is_found_without_weights(option: str, message: str, recipe, capsys) -> None:
    assert main(["train", str(recipe()), "--dry-run", option]) == 2
    assert message in capsys.readouterr().err
