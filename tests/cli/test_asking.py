"""A model is asked as it was trained: in its run folder, as an export, and as an export that was moved elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from vlm_r1.cli.main import main
from vlm_r1.evaluation.asking import FILE, Asking

INSTRUCTION = "Say it in <answer> </answer> tags: no thought."
OWN = {"thinking": "absent", "instruction": INSTRUCTION, "instruction_first": True, "wraps": False}


@pytest.fixture(scope="module")
def home(tmp_path_factory, tiny_checkpoint, rec_files) -> Path:
    """A folder with a run whose template is its own, `run`, and its exports `run/export` and `elsewhere/deep/model`."""
    home = tmp_path_factory.mktemp("asking")
    tree: dict[str, Any] = {
        "output_dir": str(home / "run"),
        "model": {"path": str(tiny_checkpoint), "max_pixels": 112 * 84},
        "data": {"train": [{"path": str(rec_files["train"])}], "template": "mine", "templates": {"mine": OWN}},
        "sampling": {"max_completion_length": 6},
        "grpo": {"num_generations": 2},
        "rewards": {"testing_rewards:letters": 1.0},
        "training": {"max_steps": 2, "prompts_per_step": 2, "save_steps": 1, "learning_rate": 1e-4},
    }
    recipe = home / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tree))
    assert main(["train", str(recipe)]) == 0
    assert main(["export", str(home / "run"), "--to", str(home / "run/export")]) == 0
    shutil.copytree(home / "run/export", home / "elsewhere/deep/model")
    return home


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")  # the line is one line all the same


def evaluate(model: Path | str, data: Path, out: Path, *options: str) -> list[dict]:
    assert main(["eval", str(model), str(data), "--out", str(out), "--limit", "5", *options]) == 0
    return [json.loads(line) for line in (out / f"{data.stem}.samples.jsonl").read_text().splitlines()]


def rewritten(home: Path, target: Path, **settings: object) -> Path:
    """The moved export with other settings in its file; None leaves the file out."""
    shutil.copytree(home / "elsewhere/deep/model", target)
    told = json.loads((target / FILE).read_text())
    (target / FILE).write_text(json.dumps(told | settings))
    return target


def test_what_an_export_says(home) -> None:
    told = json.loads((home / "run/export" / FILE).read_text(encoding="utf-8"))
    assert told == {
        "task": "rec",
        "tasks": {},
        "template": "mine",
        "thinking": "absent",
        "system_prompt": None,
        "chat_template_kwargs": {},
        "templates": {"mine": {"box_instruction": "", **OWN}},
        "max_completion_length": 6,
        "adapter": None,
        "box_format": "input_pixels",
        "min_pixels": None,
        "max_pixels": 112 * 84,
    }


def test_an_export_answers_the_same_wherever_it_lies(home, rec_files, tmp_path, capsys) -> None:
    data = rec_files["in_domain"]
    expected = evaluate(home / "run/model", data, tmp_path / "a")
    assert f"task rec, template mine, at most 6 tokens (as in {home / 'run/model' / FILE})" in capsys.readouterr().out
    assert {sample["template"] for sample in expected} == {"mine"}
    assert len({sample["text"] for sample in expected}) > 1, "else every prompt would do"
    last = home / "run/checkpoints/step-000002"
    shutil.copytree(home / "run", tmp_path / "older")  # of a version that wrote no such file
    (tmp_path / "older/model" / FILE).unlink()
    (tmp_path / "older/model/manifest.json").unlink()
    for place, where in (
        (str(tmp_path / "older/model"), tmp_path / "older/config.yaml"),
        ("run", home / "run/model" / FILE),
        ("run/export", home / "run/export" / FILE),
        ("elsewhere/deep/model", home / "elsewhere/deep/model" / FILE),
        (str(last), last / FILE),
    ):
        assert evaluate(home / place, data, tmp_path / "b") == expected
        assert f"task rec, template mine, at most 6 tokens (as in {where})" in capsys.readouterr().out


def test_without_the_file_the_default_is_used_and_named(home, rec_files, tmp_path, capsys) -> None:
    bare = rewritten(home, tmp_path / "a/b/[bare] #2")
    (bare / FILE).unlink()
    found = evaluate(bare, rec_files["in_domain"], tmp_path / "out")
    shown = capsys.readouterr().out
    assert f"template r1, at most 512 tokens (the default: {bare} has no vlm_r1.json and lies in no run)" in shown
    assert {sample["template"] for sample in found} == {"r1"}
    expected = evaluate(home / "run/model", rec_files["in_domain"], tmp_path / "expected")
    assert [sample["text"] for sample in found] != [sample["text"] for sample in expected]


def test_what_is_given_goes_first(home, rec_files, tmp_path, capsys) -> None:
    model, data = home / "elsewhere/deep/model", rec_files["in_domain"]
    assert {sample["template"] for sample in evaluate(model, data, tmp_path, "--template", "direct")} == {"direct"}
    assert f"template direct, at most 6 tokens (as given); what was not given is as in {model / FILE}" in (
        capsys.readouterr().out
    )
    assert {s["tokens"] for s in evaluate(model, data, tmp_path, "--max-completion-length", "3")} <= {1, 2, 3}
    assert f"template mine, at most 3 tokens (as in {model / FILE}); as given: max_completion_length" in (
        capsys.readouterr().out
    )


CODE = ("task", "template", "adapter")


@pytest.mark.parametrize("key", CODE)
def test_a_model_folder_opens_no_door_for_code(key: str, home, rec_files, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "stranger.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n\nclass Name: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    model = rewritten(home, tmp_path / "model", **{key: "stranger:Name"})
    for command in (["eval"], ["data", "rate"]):
        arguments = [*command, str(model), str(rec_files["in_domain"]), "--out", str(tmp_path / "out")]
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert f'{FILE}: {key} "stranger:Name" is code' in error
        assert f"--{key} stranger:Name" in error
    assert not (tmp_path / "ran").exists(), "it was imported"
    asked = {"task": "rec", "template": "bare", "adapter": "qwen2_5_vl"}[key]
    evaluate(model, rec_files["in_domain"], tmp_path / "out", f"--{key}", asked)
    assert not (tmp_path / "ran").exists(), "it was imported"


BROKEN = {
    "no JSON": ("{", "cannot be read as JSON"),
    "a list": ("[]", "the file: "),
    "an unknown key": ('{"tokenizer": "x"}', "tokenizer: "),
    "a wrong box format": ('{"box_format": "inches"}', "box_format: "),
    "a length of 0": ('{"max_completion_length": 0}', "max_completion_length: "),
    "an unknown template": ('{"template": "mien"}', 'unknown template "mien"'),
    "an unknown task": ('{"task": "sing"}', 'unknown task "sing"'),
    "another thinking": ('{"template": "r1", "thinking": "absent"}', 'template "r1" has "required"'),
    "nested without end": ("[" * 100_000, "cannot be read as JSON"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named(name: str, home, rec_files, tmp_path, capsys) -> None:
    text, message = BROKEN[name]
    model = rewritten(home, tmp_path / "model")
    (model / FILE).write_text(text)
    assert main(["eval", str(model), str(rec_files["in_domain"]), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_rate_asks_as_the_export_says(home, rec_files, tmp_path, capsys) -> None:
    model = home / "elsewhere/deep/model"
    arguments = ["data", "rate", str(model), str(rec_files["in_domain"]), "--limit", "2", "--num-generations", "2"]
    assert main([*arguments, "--out", str(tmp_path / "band.jsonl")]) == 0
    assert f"template mine, at most 6 tokens (as in {model / FILE})" in capsys.readouterr().out


def test_score_knows_the_templates_of_the_run(home, rec_files, tmp_path, capsys) -> None:
    out = tmp_path / "scores.jsonl"
    assert main(["score", str(home / "run"), "--out", str(out), "--task", "rec"]) == 0
    assert f"templates of the run's own as in {home / 'run/config.yaml'}" in capsys.readouterr().out
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert (len(rows), {row["template"] for row in rows}) == (8, {"mine"})
    case = {"completion": "<answer>[1, 2, 3, 4]</answer>", "solution": [1, 2, 3, 4], "reward": "iou"}
    (tmp_path / "case.jsonl").write_text(json.dumps(case))
    assert main(["score", str(tmp_path / "case.jsonl"), "--out", str(out)]) == 0
    assert "else the default, r1\n" in capsys.readouterr().out
    (tmp_path / "config.yaml").write_text("not: a recipe")
    assert main(["score", str(tmp_path / "case.jsonl"), "--out", str(out)]) == 0
    assert f"{tmp_path / 'config.yaml'} is no recipe of a run" in capsys.readouterr().out


def test_score_knows_the_templates_of_an_export(home, rec_files, tmp_path, capsys) -> None:
    model = shutil.copytree(home / "elsewhere/deep/model", tmp_path / "model")
    evaluate(model, rec_files["in_domain"], model / "eval")
    out = tmp_path / "scores.jsonl"
    assert main(["score", str(model / "eval/in_domain.samples.jsonl"), "--out", str(out)]) == 0
    assert f"templates of the run's own as in {model / FILE}" in capsys.readouterr().out
    assert {json.loads(line)["template"] for line in out.read_text().splitlines()} == {"mine"}


def test_a_plug_in_template_is_written_with_its_definition(home, tmp_path) -> None:
    from vlm_r1.config import load_config
    from vlm_r1.evaluation.asking import read_asking, write_asking
    from vlm_r1.types import BoxFormat

    config = load_config(
        home / "recipe.yaml", ["--data.templates={}", "--data.template=vlm_r1.tasks.templates:_FOREIGN"]
    )
    with pytest.MonkeyPatch.context() as patch:
        from vlm_r1.tasks import templates

        foreign = templates.Template("foreign", templates.Thinking.FREE, "Think, or do not.")
        patch.setattr(templates, "_FOREIGN", foreign, raising=False)
        write_asking(tmp_path, config, BoxFormat.NORM_1)
    asking = read_asking(tmp_path / FILE)
    assert (asking.template, asking.thinking, asking.box_format) == ("_FOREIGN", "free", BoxFormat.NORM_1)
    assert asking.templates["_FOREIGN"].instruction == "Think, or do not."


def test_defaults_know_nothing() -> None:
    assert Asking() == Asking(task=None, template="r1", max_completion_length=512)
