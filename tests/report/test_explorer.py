"""The data that the script of a run's page draws, and where they lie."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from testing_held_out import write_held_out
from vlm_r1.data.image_paths import ImagePaths
from vlm_r1.errors import CheckpointError
from vlm_r1.report import explorer
from vlm_r1.report.build import build_report
from vlm_r1.report.explorer import Explorer, evenly, explore
from vlm_r1.report.groups import Scale
from vlm_r1.report.held_out import held_out_sets
from vlm_r1.report.pictured import shown_sets
from vlm_r1.report.read import read_run
from vlm_r1.report.sidecars import page_data, remove_others, write_files
from vlm_r1.runtime.rollout_log import rollouts_path, write_rollouts
from vlm_r1.types import Group

ANYWHERE = ImagePaths("/", ("/",))


def explored(folder: Path) -> Explorer:
    run = read_run(folder)
    return explore(held_out_sets(run, []), run.rollouts, Scale(0, 2), ANYWHERE, [])


@pytest.fixture
def two_steps(tmp_path: Path, group: Callable[..., Group]) -> Path:
    """Record 7 is drawn at both steps; record 8 at the first only."""
    (tmp_path / "metrics.jsonl").write_text("")
    answers = [("yes", "yes", 1.0, None), ("?", None, 0.0, "no_answer_tag")]
    for step, names in ((1, "78"), (2, "7")):
        groups = [group("which?", "yes", answers, record_id=name, task="counting") for name in names]
        write_rollouts(rollouts_path(tmp_path, step), step, groups)
    return tmp_path


def test_items_of_the_training(two_steps: Path):
    found = explored(two_steps)
    (source,) = found.sources
    assert (source.kind, source.sides, source.note) == ("train", ["#1", "#2"], "")
    assert [(item["s"], item["i"]) for part in source.parts for item in part] == [(1, "7"), (1, "8"), (2, "7")]
    reasons = list(found.reasons.numbers)
    answers = source.parts[0][0]["a"]
    # accuracy 1 and format 1, then nothing; the colours are the ends of the scale from 0 to 2
    assert [(one["r"], one["e"], reasons[one["f"]]) for one in answers] == [
        (2.0, "#f0f921", "right"),
        (0.0, "#8f0da4", "not readable: no_answer_tag"),
    ]


def test_a_damaged_step_is_left_out_and_named(two_steps: Path):
    rollouts_path(two_steps, 1).write_bytes(b"PAR1")
    problems: list[str] = []
    (source,) = explore([], read_run(two_steps).rollouts, Scale(0, 2), ANYWHERE, problems).sources
    assert [item["s"] for part in source.parts for item in part] == [2]
    assert "step-000001.parquet" in problems[0]


def test_items_of_a_held_out_set_go_from_the_most_improved_to_the_most_spoiled(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text("")
    write_held_out(tmp_path, {"before": [8, 20, 0], "step-000010": [8, 8, 8], "after": [8, 0, 8]})
    (source,) = explored(tmp_path).sources
    (items,) = source.parts
    assert source.sides == ["before", "step 10", "after"]
    assert [item["i"] for item in items] == ["1", "0", "2"]
    moved = [answer["b"][0][0] for answer in items[0]["a"]]  # the left sides of the boxes of record 1
    assert moved == [30, 18, 10]  # 10 + 20, 10 + 8, 10 + 0
    assert [answer["r"] for answer in items[0]["a"]][::2] == [0.5, 1.5]  # format counts half; IoU 0, then 1
    assert all(item["u"].startswith("data:image/png") for item in items)


def test_what_is_left_out_is_said(two_steps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_held_out(tmp_path, {"before": [8, 20, 0, 4], "after": [8, 0, 8, 4]})
    monkeypatch.setattr(explorer, "MAX_RECORDS", 2)
    monkeypatch.setattr(explorer, "MAX_STEPS", 1)
    monkeypatch.setattr(explorer, "evenly", lambda things, count: list(things)[:count])
    held, train = explored(two_steps).sources
    assert [item["i"] for item in held.parts[0]] == ["1", "2"]
    assert held.note == "2 records that changed least are left out."
    assert train.note == "Groups of 1 of the 2 steps on file, evenly spread."


@pytest.mark.parametrize(
    ("n", "count", "chosen"),
    [
        pytest.param(3, 5, [0, 1, 2], id="few"),
        pytest.param(10, 4, [0, 3, 6, 9], id="evenly"),
        pytest.param(0, 4, [], id="none"),
    ],
)
def test_evenly(n: int, count: int, chosen: list[int]):
    assert evenly(range(n), count) == chosen


def test_large_data_lie_beside_the_page(two_steps: Path):
    made = explored(two_steps)
    inside, beside = page_data(made, "report_files"), page_data(made, "report_files", 0)
    assert (len(inside.inline), len(inside.files)) == (1, 0)
    assert (len(beside.inline), len(beside.files)) == (0, 1)
    ((name, script),) = beside.files.items()
    assert beside.index["sources"][0]["parts"] == [{"id": "part-0-0", "file": f"report_files/{name}", "n": 3}]
    text = re.fullmatch(r'\(self\.vlmR1Parts \?\?= \{\}\)\["part-0-0"\] = (".*");\n', script)
    assert text
    assert json.loads(json.loads(text[1])) == json.loads(inside.inline[0][1]) == made.sources[0].parts[0]


def test_files_of_an_older_page_go_and_those_of_others_stay(tmp_path: Path):
    folder = tmp_path / "report_files"
    old, new = f"part-0-0-{'a' * 16}.js", f"part-0-0-{'b' * 16}.js"
    write_files(folder, {old: "1"})
    (folder / "mine.js").write_text("")
    write_files(folder, {new: "2"})
    assert {path.name for path in folder.iterdir()} == {old, new, "mine.js"}  # the older page still has its own
    remove_others(folder, {new: "2"})
    assert {path.name for path in folder.iterdir()} == {new, "mine.js"}
    (folder / "mine.js").unlink()
    remove_others(folder, {})
    assert not folder.exists()


def test_a_link_is_not_written_through(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "report_files").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="is a link"):
        write_files(tmp_path / "report_files", {"part-0-0-aaaaaaaaaaaaaaaa.js": "1"})
    remove_others(tmp_path / "report_files", {})
    assert (tmp_path / "elsewhere").is_dir()


def test_cards_from_the_most_improved_to_the_most_spoiled(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text("")
    write_held_out(tmp_path, {"before": [20, *[8] * 19, 0], "after": [0, *[8] * 19, 20]})
    (shown,) = shown_sets(held_out_sets(read_run(tmp_path), []), ANYWHERE)
    assert [card.place for card in shown.cards] == ["most improved", "85 %", "50 %", "25 %", "5 %", "most spoiled"]
    assert [card.record for card in (shown.cards[0], shown.cards[-1])] == ["0", "20"]
    assert shown.note.startswith("1 of 21 better, 1 worse, from before to after.")
    assert [view.caption for view in shown.cards[0].views] == ["IoU 0.00", "IoU 1.00"]


@pytest.mark.parametrize(
    ("before", "after", "ends"),
    [
        pytest.param([8, 8], [0, 0], ["most improved", "least improved"], id="all better"),
        pytest.param([0, 0], [8, 8], ["least spoiled", "most spoiled"], id="all worse"),
        pytest.param([8, 8], [0, 8], ["most improved", "unchanged"], id="none worse"),
        pytest.param([8, 8], [8, 8], ["unchanged", "unchanged"], id="nothing changed"),
    ],
)
def test_the_ends_are_called_what_they_are(tmp_path: Path, before: list, after: list, ends: list[str]):
    (tmp_path / "metrics.jsonl").write_text("")
    write_held_out(tmp_path, {"before": before, "after": after})
    (shown,) = shown_sets(held_out_sets(read_run(tmp_path), []), ANYWHERE)
    assert [card.place for card in shown.cards] == ends


def test_a_run_that_was_only_measured_afterwards_has_pictures_too(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text("")
    write_held_out(tmp_path, {"after": [0, 8, 20]})
    (shown,) = shown_sets(held_out_sets(read_run(tmp_path), []), ANYWHERE)
    records = [card.record for card in shown.cards]
    assert (records[0], records[-1]) == ("0", "2")
    assert shown.note.startswith("Answers after training, at fixed places in the order of all 3")


def test_the_page_keeps_its_data_when_it_is_built_again(two_steps: Path):
    first = build_report(two_steps).read_bytes()
    assert build_report(two_steps).read_bytes() == first
    assert not (two_steps / "report_files").exists()
