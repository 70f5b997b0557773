"""Run folders are read whatever state they are in."""

from __future__ import annotations

import json

import pytest
import yaml

from vlm_r1.doctor import examine_run
from vlm_r1.doctor.read import read_evaluations, read_seen, settings_of, windows
from vlm_r1.errors import CheckpointError
from vlm_r1.runtime.metrics_log import append_metrics


def write_run(folder, steps=12, stage="grpo"):
    folder.mkdir()
    recipe = {
        "data": {"train": [{"path": "a", "task": "ovd"}, {"path": "b", "reward": "iou"}]},
        "grpo": {"num_generations": 8, "loss_type": "dapo"},
        "training": {"prompts_per_step": 4},
        "rewards": {"accuracy": 1, "format": 0.5},
        "sampling": {"top_p": 0.9},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(recipe))
    for step in range(1, steps + 1):
        row = {"rewards/accuracy/mean": 0.0, "rewards/accuracy/std": 0.0, "groups/no_signal": 0.5}
        append_metrics(folder / "metrics.jsonl", {"step": step, "stage": stage, **row})
    return folder


def write_evaluation(folder, name, step, mean):
    (folder / "eval").mkdir(exist_ok=True)
    metrics = {"f1": {"mean": mean, "ci95": [mean - 0.1, mean + 0.1], "n": 4}}
    tree = {"name": name, "step": step, "n": 4, "metrics": metrics, "parse_failures": {"no_box": 1}}
    (folder / f"eval/{name}.json").write_text(json.dumps(tree))


def test_a_run_is_read(tmp_path):
    run = write_run(tmp_path / "run")
    for name, step in (("after-val", 12), ("before-val", 0), ("step-000006-val", 6), ("mine", 3)):
        write_evaluation(run, name, step, 0.5 - step / 100)
    seen, problems = read_seen(run)
    assert len(seen.rows) == 12
    assert [one.step for one in seen.held_out["val"]] == [0, 6, 12]
    assert seen.held_out["val"][0].unread == {"no_box": 1}
    assert seen.settings.rewards == ("odlength", "iou")
    assert (seen.settings.completions, seen.settings.cuts, seen.settings.loss_type) == (32, True, "dapo")
    (problem,) = problems
    assert "after-val.samples.jsonl" in problem, "these samples were not written"
    assert [finding.name for finding in examine_run(run)] == ["dead-reward"]


def test_a_run_is_read_up_to_a_step(tmp_path):
    run = write_run(tmp_path / "run")
    write_evaluation(run, "before-val", 0, 0.5)
    write_evaluation(run, "step-000006-val", 6, 0.4)
    seen, _ = read_seen(run, until=5)
    assert (seen.step, [one.step for one in seen.held_out["val"]]) == (5, [0])
    assert read_seen(run, until=0)[0].rows == []
    assert list(read_evaluations(run / "eval", 0)) == ["val"]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.yaml", b"\xff: ["),
        ("config.yaml", b"data: 3\ngrpo: [1]\nrewards: {a: b}"),
        ("metrics.jsonl", b"no\n" * 3),
        ("metrics.jsonl", b'{"step": 1, "stage": "grpo", "reward/mean": null}\n'),
        ("rollouts/step-000003.parquet", b"PAR1"),
        ("eval/after-val.json", b'{"metrics": []}'),
        ("eval/after-val.json", b'{"metrics": {"f1": {"mean": 1, "ci95": [0]}}, "step": 1, "n": 1}'),
        ("eval/after-val.json", b"[" * 100_000),
        ("eval/before-val.json", b'{"metrics": {"f1": {"mean": 1e999, "ci95": [0, 1]}}, "step": 1, "n": 1e999}'),
    ],
)
def test_damaged_files_are_left_out(tmp_path, file, content):
    run = write_run(tmp_path / "run")
    path = run / file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    _, problems = read_seen(run)
    assert problems or path.suffix in (".yaml", ".jsonl")
    assert all(str(path.parent) in problem for problem in problems)
    examine_run(run)


def test_only_the_last_stage_is_looked_at(tmp_path):
    run = write_run(tmp_path / "run", stage="sft")
    append_metrics(run / "metrics.jsonl", {"step": 13, "stage": "grpo"})
    assert len(read_seen(run)[0].rows) == 1


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="not a run folder"):
        read_seen(tmp_path)


def test_odd_recipes_give_empty_settings():
    assert settings_of({"grpo": {"num_generations": "8"}, "data": {"train": [3, {"task": ["x"]}]}}).rewards == ()
    assert windows(list(range(100))) == [*range(10), *range(90, 100)]
