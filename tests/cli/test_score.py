"""`vlm-r1 score` as a user runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from vlm_r1.cli.main import main

CASES = [
    {"reward": "rec_iou/raw_pixels", "completion": "<answer>[0.0, 0, 10, 10]</answer>", "solution": [5, 0, 15, 10]},
    {"reward": "yes_no", "completion": "I know", "solution": "no", "official": 1.0},
    {"reward": "numeric", "completion": "three", "solution": "3", "official": None},
    {"reward": "od_ap50", "completion": "<answer>None</answer>", "solution": [], "id": 17},
]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    path = tmp_path / "cases.jsonl"
    path.write_text("\n".join(map(json.dumps, CASES)), encoding="utf-8")
    return path


def score(path: Path, *options: str) -> list[float | None]:
    out = path.with_name("scores.jsonl")
    assert main(["score", str(path), "--out", str(out), *options]) == 0
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [{key: row[key] for key in row if key != "score"} for row in rows] == CASES
    return [row["score"] for row in rows]


def test_ours(cases, capsys):
    assert score(cases) == [pytest.approx(1 / 3), 0, 0, 1]
    printed = capsys.readouterr().out
    assert "4/4" in printed
    assert [line.split() for line in printed.splitlines() if line.strip().startswith("yes_no")] == [
        ["yes_no", "1", "0", "0.0000", "0", "of", "1"]
    ]
    assert "scores.jsonl" in printed


def test_official(cases, capsys):
    assert score(cases, "--official") == [0, 1, None, 1]
    printed = capsys.readouterr().out
    assert 'cases.jsonl:3: the original\'s "numeric" returns nothing here' in printed


def test_two_processes(cases):
    assert score(cases, "--workers", "2") == score(cases)


def test_by_a_recipe(cases, recipe, tmp_path):
    assert score(cases, "--recipe", str(recipe(rewards={"accuracy": 2.0}))) == [pytest.approx(2 / 3), 0, 0, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(["--official", "--task", "rec"], "--task has no effect with --official", id="official and task"),
        pytest.param(["--recipe", "r.yaml", "--template", "r1"], "--template has no effect", id="recipe and template"),
        pytest.param(["--template", "r2"], 'unknown template "r2"', id="template"),
    ],
)
def test_options_that_do_not_go_together(options, message, cases, capsys):
    out = cases.with_name("out.jsonl")
    assert main(["score", str(cases), "--out", str(out), *options]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_bad_line_leaves_nothing_behind(cases, tmp_path, capsys):
    cases.write_text(cases.read_text(encoding="utf-8") + "\n{", encoding="utf-8")
    assert main(["score", str(cases), "--out", str(tmp_path / "out.jsonl")]) == 2
    assert capsys.readouterr().err.startswith(f"DataError: {cases}:5: not valid JSON")
    assert [path.name for path in tmp_path.iterdir()] == ["cases.jsonl"]


WORDS = """
from vlm_r1.tasks.templates import Template
from vlm_r1.types import Thinking

LOUD = Template("LOUD", Thinking.ABSENT, "Say it loud.")
"""


def test_a_run_with_a_template_of_its_own(recipe, tmp_path, monkeypatch, capsys) -> None:
    """By the words that its model has; without a model by the template that is allowed; nothing is written."""
    (tmp_path / "my_words.py").write_text(WORDS)
    monkeypatch.syspath_prepend(tmp_path)
    path = recipe(**{"training.max_steps": 1, "data.template": "my_words:LOUD"})
    assert main(["train", str(path)]) == 0
    run = tmp_path / "run"
    files = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert main(["score", str(run), "--reward", "giou"]) == 0
    told = capsys.readouterr().out
    assert f"templates of the run's own as in {run / 'model/vlm_r1.json'}" in told
    assert " giou " in told
    assert "written" not in told
    shutil.rmtree(run / "model")
    assert main(["score", str(run), "--reward", "giou"]) == 2, "control: nobody says what the words are"
    assert 'unknown template "LOUD"' in capsys.readouterr().err
    assert main(["score", str(run), "--reward", "giou", "--allow-template", "my_words:LOUD"]) == 0
    assert {file for file in files if file.exists()} == set(tmp_path.rglob("*"))


def test_a_table_alone(cases, capsys) -> None:
    assert main(["score", str(cases)]) == 0
    printed = capsys.readouterr().out
    assert "yes_no" in printed
    assert "written" not in printed
    assert [path.name for path in cases.parent.iterdir()] == ["cases.jsonl"]
    assert main(["score", str(cases), "--protocol", "refcoco"]) == 2
    assert "--protocol wants --out FILE.json" in capsys.readouterr().err
