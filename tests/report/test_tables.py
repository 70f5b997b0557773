import json
from pathlib import Path

import pytest

from vlm_r1.report.read import read_run
from vlm_r1.report.tables import compare, run_phases, step_phases


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text("seed: 1")
    return tmp_path


def test_before_after_and_difference_with_the_interval_of_the_first_metric(folder: Path):
    before = {"accuracy_iou50": 0.25, "mean_iou": 0.3, "ci95": [0.21, 0.29], "n": 512}
    after = {"accuracy_iou50": 0.605, "mean_iou": 0.29, "ci95": [0.56, 0.65], "n": 512}
    (folder / "summary.json").write_text(json.dumps({"before": {"in_domain": before}, "after": {"in_domain": after}}))
    accuracy, iou = compare(read_run(folder))
    assert (accuracy.dataset, accuracy.metric, accuracy.n) == ("in domain", "accuracy at IoU 0.5", "512")
    assert accuracy.before is not None
    assert (accuracy.before.text, accuracy.before.interval) == ("25.0\xa0%", "21.0 – 29.0")
    assert (accuracy.difference, accuracy.better) == ("+35.5 points", True)  # 60.5 − 25.0
    assert iou.after is not None
    assert (iou.after.text, iou.after.interval) == ("0.290", "")
    assert (iou.difference, iou.better) == ("−0.010", False)


def test_the_other_metrics_intervals_come_from_the_evaluation(folder: Path):
    values = {"accuracy_iou50": 0.25, "mean_iou": 0.3, "ci95": [0.21, 0.29], "n": 512}
    (folder / "summary.json").write_text(json.dumps({"before": {"a": values}, "after": {}}))
    metrics = {"accuracy_iou50": {"mean": 0.25, "ci95": [0.22, 0.28]}, "iou": {"mean": 0.3, "ci95": [0.28, 0.32]}}
    (folder / "eval").mkdir()
    (folder / "eval" / "before-a.json").write_text(json.dumps({"step": 0, "n": 512, "metrics": metrics}))
    rows = compare(read_run(folder))
    assert [row.before and row.before.interval for row in rows] == ["22.0 – 28.0", "0.280 – 0.320"]
    assert [(row.after, row.difference, row.better) for row in rows] == [(None, "", None)] * 2


@pytest.mark.parametrize(
    "summary",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"before": {"in_domain": {}}, "after": {}}, id="a set without numbers"),
        pytest.param({"before": None, "after": None, "seconds": None}, id="nulls"),
    ],
)
def test_a_summary_without_numbers_gives_no_rows(folder: Path, summary: dict):
    (folder / "summary.json").write_text(json.dumps(summary))
    run = read_run(folder)
    assert compare(run) == []
    assert run_phases(run) == []


def test_seconds_of_the_run_as_shares(folder: Path):
    (folder / "summary.json").write_text(json.dumps({"seconds": {"warm_start": 30.0, "train": 90.0}}))
    warm_start, train = run_phases(read_run(folder))
    assert (warm_start.name, warm_start.seconds, warm_start.share) == ("warm start", "30 s", 0.25)
    assert (train.seconds, train.share) == ("1 min 30 s", 0.75)


def test_phases_are_summed_over_steps_and_the_rest_is_other():
    step = {"step": 1, "time/sample_s": 3.0, "time/update_s": 1.0, "time/step_s": 5.0, "tokens/sample": 600}
    sample, update, other = step_phases([step, step | {"step": 2}])
    assert (sample.name, sample.seconds, sample.share) == ("sample", "6 s", 0.6)  # 2 · 3 s of 2 · 5 s
    assert (sample.tokens, sample.rate) == ("1,200", "200")  # 1200 tokens in 6 s
    assert (update.share, update.tokens, update.rate) == (0.2, "", "")
    assert (other.name, other.seconds, other.share) == ("other", "2 s", 0.2)
