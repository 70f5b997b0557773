"""A run that trains says each finding once, also when it is resumed, and writes them into its summary."""

from __future__ import annotations

import json

from vlm_r1.cli.main import main
from vlm_r1.doctor import examine_run
from vlm_r1.doctor.base import Finding
from vlm_r1.training.findings import said

SAID = "no-spread-at-start: none of the first 16 groups had rewards that differ; the mean reward is 0"


def test_a_finding_is_said_once_also_in_a_resumed_run(recipe, tmp_path, capsys, rec_files):
    # a random model earns nothing: 16 groups of 4 steps. It is found at step 4, and the accuracy of 10 steps at step 10
    overrides = {"rewards": {"accuracy": 1.0}, "data.eval": {"val": {"path": str(rec_files["in_domain"])}}}
    path = recipe(**overrides, **{"training.max_steps": 5, "training.trust_checks": False})
    assert main(["train", str(path)]) == 0
    first = capsys.readouterr().out
    assert first.count(f"step 4: {SAID}") == first.count("no-spread-at-start:") == 1
    run = tmp_path / "run"
    summary = json.loads((run / "summary.json").read_text())
    assert [one["name"] for one in summary["findings"]] == ["no-spread-at-start"]
    assert summary["findings"] == [finding.as_json() for finding in examine_run(run)]

    more = ["--resume", "--training.max_steps=10", "--allow", "training.max_steps"]
    assert main(["train", str(run / "config.yaml"), *more]) == 0
    second = capsys.readouterr().out
    assert "no-spread-at-start:" not in second
    assert second.count("step 10: dead-reward (accuracy): accuracy was 0 in every completion") == 1
    summary = json.loads((run / "summary.json").read_text())
    assert "dead-reward" in [one["name"] for one in summary["findings"]]
    assert summary["findings"] == [finding.as_json() for finding in examine_run(run)]

    assert main(["doctor", str(run)]) == 1
    printed = capsys.readouterr().out
    assert "signs looked at 10 steps, 160 completions of the first and last 10 steps with rollouts" in printed
    assert main(["doctor", str(run), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["findings"] == summary["findings"]
    assert told["not_read"] == []


def test_a_finding_is_shown_with_what_to_do():
    one = Finding("one-answer", "64 of 64", "it no longer looks", "go back", 3, "val")
    assert said(one).splitlines() == [
        "step 3: one-answer (val): 64 of 64",
        "  likely: it no longer looks",
        "  change: go back",
        "  more:   docs/doctor.md#one-answer",
    ]
