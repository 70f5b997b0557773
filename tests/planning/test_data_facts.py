"""What a data file says by itself: the task, the form of its boxes, its pictures, and the room for its answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vlm_r1.config.data import DataSource
from vlm_r1.errors import ConfigError, DataError
from vlm_r1.planning.data_facts import DataFacts, kind_of_answer, look_at_data
from vlm_r1.types import Record

BOX = {"bbox_2d": [1, 2, 3, 4], "label": "cat"}


@pytest.mark.parametrize(
    ("problem", "answer", "columns", "task"),
    [
        ("the cat", [1, 2, 30, 40], {}, "rec"),
        ("the cat", "[1, 2, 30, 40]", {}, "rec"),
        ("the cat", {"bbox_2d": [1, 2, 30, 40]}, {}, "rec"),
        ("cat, dog", [BOX, BOX], {}, "ovd"),
        ("cat, dog", f"```json\n{json.dumps([BOX])}\n```", {}, "ovd"),
        ("all cats", [[1, 2, 3, 4], [5, 6, 7, 8]], {}, "multi_rec"),
        ("click on OK", [10, 20], {}, "gui_click"),
        ("How many cats?", "3", {}, "counting"),
        ("Is it a cat?", "Yes.", {}, "yes_no"),
        ("Is it a cat?", True, {}, "yes_no"),
        ("Which animal?", "B", {"options": ["cat", "dog"]}, "choice"),
        ("What year is it?", "1984", {}, "vqa"),
        ("What is it?", "a cat", {}, "vqa"),
        ("What is it?", "[", {}, "vqa"),
        ("What is it?", [], {}, "vqa"),
    ],
)
def test_kinds_of_answers(problem: str, answer: Any, columns: dict[str, Any], task: str) -> None:
    assert kind_of_answer(Record("1", "vqa", problem, (), answer, columns=columns)) == task


@pytest.fixture
def facts_of(tmp_path: Path, picture):
    """`facts_of(answers, task, wh)`: facts about a file with these answers, on pictures of one size."""

    def make(answers: list[Any], task: str | None = None, wh: tuple[int, int] = (100, 60)) -> DataFacts:
        root = Path(picture(*wh))
        rows = [{"problem": "<image>the cat", "images": [root.name], "answer": answer} for answer in answers]
        path = tmp_path / "data.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        return look_at_data(DataSource(path=str(path), image_root=str(root.parent)), task)

    return make


def test_pixels_need_nothing(facts_of) -> None:
    facts = facts_of([[n, 2, 90, 50] for n in range(30)])
    assert facts.source.model_dump(exclude_defaults=True).keys() == {"path", "image_root"}, "rec is the default"
    assert (facts.records, facts.sizes_wh, facts.most_images) == (30, [(100, 60)], 1)
    assert facts.longest == len("[29, 2, 90, 50]")
    assert facts.said == ["the task is rec, as the answers look"]


@pytest.mark.parametrize(
    ("answers", "options", "said"),
    [
        pytest.param([[0.1, 0.2, 0.5, 0.6]] * 20, {"coordinates": "norm_1"}, "0-1", id="0 to 1"),
        pytest.param([[100, 200, 990, 900]] * 20, {"coordinates": "norm_1000"}, "0-1000", id="0 to 1000"),
        pytest.param([[60, 30, 20, 10]] * 20, {"box": "xywh"}, "width, height", id="width and height"),
    ],
)
def test_boxes_in_another_form(answers, options, said, facts_of) -> None:
    facts = facts_of(answers, "rec")
    assert {key: getattr(facts.source, key) for key in options} == options
    assert said in facts.said[0]


def test_what_cannot_be_decided(facts_of, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"several tasks: rec \(5\), vqa \(5\). Name one: --task rec"):
        facts_of([[1, 2, 3, 4], "a cat"] * 5)
    with pytest.raises(DataError, match="look like y1, x1, y2, x2"):
        facts_of([[10, 5, 50, 90]] * 30)
    with pytest.raises(DataError, match=r"none\.jsonl: "):
        look_at_data(DataSource(path=str(tmp_path / "none.jsonl")), None)
    (tmp_path / "bad.jsonl").write_text('{"problem": "x"')
    with pytest.raises(DataError, match=r"bad\.jsonl:1: not valid JSON"):
        look_at_data(DataSource(path=str(tmp_path / "bad.jsonl")), None)
