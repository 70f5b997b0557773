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


def test_each_source_of_a_mixture_shows_a_prompt(recipe, rec_files, capsys) -> None:
    """The second source has another template. Control: a single source shows one prompt."""
    paths = (rec_files["train"], rec_files["in_domain"])
    one, two = ({"path": str(path), "template": name} for path, name in zip(paths, ("bare", "direct"), strict=True))
    mixed = shown(capsys, recipe(**{"data.train": [one, two]}))
    assert re.findall(r"first prompt, \S*/(\w+)\.jsonl:(\d+)", mixed) == [("train", "1"), ("in_domain", "1")]
    assert mixed.count("│ gold answer") == 2
    assert "JSON" not in mixed[: mixed.index("in_domain.jsonl:1")]
    assert "JSON" in mixed[mixed.index("in_domain.jsonl:1") :], "the words of the second template"
    assert shown(capsys, recipe(**{"data.train": [two]})).count("first prompt") == 1


def test_too_long_prompts_of_a_source_are_not_shown(recipe, rec_files, capsys) -> None:
    """Only prompts of 25 tokens fit, the shortest ones."""
    sources = [{"path": str(rec_files[name])} for name in ("train", "in_domain")]
    limit = {"data.train": sources, "data.max_prompt_length": 25, "data.filter_overlong_prompts": True}
    lengths = re.findall(r"tokens +(\d+)", shown(capsys, recipe(**limit)))
    assert len(lengths) == 2
    assert all(int(n) == 25 for n in lengths)


def test_an_existing_run_may_be_looked_at(recipe, tmp_path, capsys) -> None:
    (tmp_path / "run").mkdir()
    path = recipe()
    (tmp_path / "run/config.yaml").write_text(path.read_text())
    before = sorted(tmp_path.rglob("*"))
    told = shown(capsys, tmp_path / "run/config.yaml")
    assert f"training would not start here: {tmp_path / 'run'}: already holds a run of `vlm-r1 train`" in told
    assert "first prompt" in told
    assert "dry run: all checks passed but that of the run folder, see above, nothing was written" in told
    assert sorted(tmp_path.rglob("*")) == before
    assert main(["train", str(path)]) == 2, "control: training refuses"
    assert "already holds a run" in capsys.readouterr().err
    other = shown(capsys, path, f"--output_dir={tmp_path / 'other'}")
    assert "dry run: all checks passed, nothing was written" in other
