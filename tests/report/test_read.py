import json
import re
from pathlib import Path

import pytest

from vlm_r1.errors import CheckpointError
from vlm_r1.report.read import Estimate, Evaluation, read_run


def test_a_finished_run_is_read_whole(grpo_run: Path):
    run = read_run(grpo_run)
    assert run.config["seed"] == 7
    assert [row["step"] for row in run.metrics] == list(range(1, 41))  # the torn line 41 is left out
    assert list(run.rollouts) == [1, 20, 40]
    assert run.rollouts[20] == grpo_run / "rollouts" / "step-000020.parquet"
    assert [(e.moment, e.dataset, e.step) for e in run.evaluations if e.dataset == "in_domain"] == [
        ("before", "in_domain", 0),
        ("step", "in_domain", 10),
        ("step", "in_domain", 20),
        ("step", "in_domain", 30),
        ("after", "in_domain", 40),
    ]


def test_an_evaluation_file(grpo_run: Path):
    metrics = {"accuracy_iou50": {"mean": 0.5, "ci95": [0.4, 0.6]}, "format": {"mean": 1}}
    tree = {"name": "after-a-b", "step": 40, "n": 3, "metrics": metrics}
    (grpo_run / "eval" / "after-a-b.json").write_text(json.dumps(tree))
    found = next(e for e in read_run(grpo_run).evaluations if e.dataset == "a-b")
    estimates = {"accuracy_iou50": Estimate(0.5, (0.4, 0.6)), "format": Estimate(1.0, None)}
    assert found == Evaluation("after", "a-b", 40, 3, estimates)


def test_what_is_missing_is_empty(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("seed: 1")
    run = read_run(tmp_path)
    assert (run.metrics, run.evaluations, dict(run.rollouts)) == ((), (), {})
    assert (run.summary, run.environment) == ({}, {})


@pytest.mark.parametrize(
    ("content", "found"),
    [
        pytest.param(None, "no such folder", id="no folder"),
        pytest.param((), "an empty folder", id="empty folder"),
        pytest.param(("model.safetensors", "config.json"), "config.json, model.safetensors", id="a model"),
    ],
)
def test_a_folder_that_is_no_run_says_what_was_expected(tmp_path: Path, content: tuple[str, ...] | None, found: str):
    folder = tmp_path / "thing"
    for name in content or ():
        folder.mkdir(exist_ok=True)
        (folder / name).write_text("")
    if content == ():
        folder.mkdir()
    with pytest.raises(CheckpointError) as caught:
        read_run(folder)
    assert f"{folder}: not a run folder. Wanted config.yaml and metrics.jsonl" in str(caught.value)
    assert str(caught.value).endswith(f"found: {found}")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("summary.json", '{"before"', "summary.json: cannot be read as JSON", id="torn JSON"),
        pytest.param("summary.json", "[]", "summary.json: wanted a JSON object, got list", id="list"),
        pytest.param("config.yaml", "a: [", "config.yaml: cannot be read as YAML", id="broken YAML"),
        pytest.param("config.yaml", "a", "config.yaml: wanted a mapping of sections, got str", id="text"),
        pytest.param("eval/after-x.json", "{}", "after-x.json: not an evaluation as in docs/runs.md", id="evaluation"),
    ],
)
def test_a_damaged_file_is_named(grpo_run: Path, name: str, content: str, message: str):
    assert read_run(grpo_run).problems == ()
    (grpo_run / name).write_text(content)
    (problem,) = read_run(grpo_run).problems
    assert re.search(message, problem)
