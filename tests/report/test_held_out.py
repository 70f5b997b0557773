"""How the held-out sets of a run changed, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from testing_held_out import MAIN, Shift, change_of, samples_of, write_held_out
from vlm_r1.report.held_out import change_between, compare_so_far, held_out_sets
from vlm_r1.report.read import read_run


def test_a_change_by_hand(tmp_path: Path):
    # right up to a shift of 6: 0 0 1 1 0 → 1 1 0 1 0, a sum of 2 → 3 over 5 answers
    change = change_of(tmp_path, [20, 8, 0, 4, 8], [0, 4, 8, 4, 10])
    assert change.difference == pytest.approx((3 - 2) / 5)
    # the fifth stays wrong, but its IoU falls from 12 / 28 to 10 / 30
    assert (change.better, change.worse, change.same) == (2, 2, 1)
    # IoU 0 → 1, then 0.43 → 0.67, then none, then 0.43 → 0.33 with the same accuracy, then 1 → 0.43
    assert change.order == (0, 1, 3, 4, 2)
    assert (change.pictures, change.unpaired) == (5, 0)


def test_answers_without_a_partner_are_counted(tmp_path: Path):
    write_held_out(tmp_path, {"before": [0, 0, 0], "after": [8, 8, 8]})
    before, after = samples_of(tmp_path, "before"), samples_of(tmp_path, "after")
    change = change_between(before[1:], after[:2], MAIN)
    assert ([pair.first.record_id for pair in change.pairs], change.unpaired) == (["1"], 2)


@pytest.mark.parametrize(
    ("before", "after", "trend"),
    [
        pytest.param([8] * 12, [0] * 12, 1, id="all become right"),
        pytest.param([0] * 12, [8] * 12, -1, id="all become wrong"),
        pytest.param([8] * 9, [0] * 9, 0, id="too few pictures"),
        pytest.param([0] * 12, [0] * 12, 0, id="nothing changes"),
        # 1 of 12 becomes right: a third of the drawn sets lack it, so 0 is in the interval
        pytest.param([8] * 12, [0, *[8] * 11], 0, id="one of twelve"),
        pytest.param([None] * 12, [0] * 12, 1, id="not readable before"),
    ],
)
def test_what_chance_explains(tmp_path: Path, before: list[Shift], after: list[Shift], trend: int):
    (tmp_path / "metrics.jsonl").write_text("")
    write_held_out(tmp_path, {"before": before, "after": after})
    (one,) = held_out_sets(read_run(tmp_path), [])
    assert one.trend == trend


def test_moments_in_order_and_by_name(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text("")
    moments = {"before": [8] * 3, "step-000020": [4] * 3, "step-000010": [8] * 3}
    write_held_out(tmp_path, moments)
    (one,) = held_out_sets(read_run(tmp_path), [])
    assert [moment.name for moment in one.moments] == ["before", "step 10", "step 20"]
    rows = compare_so_far([one])
    assert (rows[0].metric, rows[0].difference) == ("accuracy at IoU 0.5", "+100.0 points")
    write_held_out(tmp_path, {"after": [0] * 3})
    (one,) = held_out_sets(read_run(tmp_path), [])
    assert [moment.name for moment in one.moments] == ["before", "step 10", "step 20", "after"]
    # a run that goes on after its end: what was "after" is a step as any other
    write_held_out(tmp_path, {"step-000050": [0] * 3})
    (one,) = held_out_sets(read_run(tmp_path), [])
    assert [moment.name for moment in one.moments][-2:] == ["step 40", "step 50"]


def test_damaged_samples_are_a_problem_and_no_change(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text("")
    write_held_out(tmp_path, {"before": [8] * 3, "after": [4] * 3})
    (tmp_path / "eval/after-val.samples.jsonl").write_text('{"record_id": 5}\n')
    problems: list[str] = []
    (one,) = held_out_sets(read_run(tmp_path), problems)
    assert one.change is None
    assert "after-val.samples.jsonl:1" in problems[0]


def test_a_set_is_first_if_the_summary_names_it_first(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text("")
    for name in ("a", "b"):
        write_held_out(tmp_path, {"before": [8]}, name)
    (tmp_path / "summary.json").write_text(json.dumps({"before": {"b": {"n": 1}, "a": {"n": 1}}}))
    assert [one.dataset for one in held_out_sets(read_run(tmp_path), [])] == ["b", "a"]
