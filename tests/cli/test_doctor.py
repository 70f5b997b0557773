"""`vlm-r1 doctor` on runs that are well, damaged, or none."""

from __future__ import annotations

import json

from vlm_r1.cli.main import main
from vlm_r1.runtime.metrics_log import append_metrics


def test_a_run_that_is_well(tmp_path, capsys):
    for step in range(1, 11):
        row = {"loss": 0.001, "groups/no_signal": 0.1, "reward/mean": 0.5}
        append_metrics(tmp_path / "metrics.jsonl", {"step": step, "stage": "grpo", **row})
    assert main(["doctor", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "nothing found; 15 signs looked at 10 steps" in printed
    assert "A loss near 0 is normal here (mean of the last 10 steps: +0.0010)" in printed


def test_a_damaged_run(tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("[")
    (tmp_path / "metrics.jsonl").write_text("no\nmetrics\n")
    assert main(["doctor", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert f"not read: {tmp_path}/config.yaml" in printed
    assert f"not read: {tmp_path}/metrics.jsonl:1" in printed
    assert "nothing found; 15 signs looked at 0 steps" in printed
    assert main(["doctor", str(tmp_path), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["not_read"]) == 2


def test_no_run(tmp_path, capsys):
    assert main(["doctor", str(tmp_path)]) == 2
    assert "not a run folder" in capsys.readouterr().err
