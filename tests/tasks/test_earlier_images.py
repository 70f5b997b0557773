"""On which image boxes lie if earlier turns show images too: gold answers, answers, and the checks of rows."""

import json

import pytest
from PIL import Image

from vlm_r1.config.data import DataSource
from vlm_r1.data.records import RecordFile
from vlm_r1.data.rows import Problem
from vlm_r1.errors import DataError
from vlm_r1.tasks import get_task
from vlm_r1.tasks.judge import Attempt, check_gold, judge
from vlm_r1.tasks.rec import Rec
from vlm_r1.tasks.templates import get_template
from vlm_r1.types import BoxFormat, ImageFrame, PlacedBox, Record, Turn

WIDE, TALL = ImageFrame((200, 100), (400, 200)), ImageFrame((100, 300), (50, 150))
"""Seen twice as large, and half as large."""

BEFORE = (Turn("user", "<image>Is it red?"), Turn("assistant", "Yes."))


def record(task: str, answer, question: str = "<image>the cat", history=BEFORE, n_images: int = 2) -> Record:
    names = ("wide.png", "tall.png")[:n_images]
    return Record("1", task, question, names, answer, source="a.jsonl:1", history=history)


BOX = [20, 200, 60, 280]
SEEN = [10, 100, 30, 140]
"""The same on TALL as the model sees it: halved."""


@pytest.mark.parametrize(
    ("task", "gold", "written"),
    [
        pytest.param("rec", BOX, str(SEEN), id="rec"),
        pytest.param("multi_rec", [BOX], json.dumps([{"bbox_2d": SEEN}]), id="multi_rec"),
        pytest.param("ovd", [{"bbox_2d": BOX, "label": "cat"}], None, id="ovd"),
        pytest.param("gui_click", BOX, '{"point_2d": [20, 120]}', id="gui_click"),
    ],
)
def test_boxes_lie_on_the_image_of_the_question(task, gold, written):
    asked, frames = record(task, gold), (WIDE, TALL)
    check_gold(asked, frames)
    own = get_task(task)
    text = own.gold_text(own.gold(asked), frames, BoxFormat.INPUT_PIXELS)
    if task in ("rec", "gui_click"):
        assert text == written
    else:
        assert str(SEEN) in text
    attempt = Attempt(f"<think></think><answer>{text}</answer>", asked, frames, own, get_template("r1"))
    (score,) = judge([attempt], BoxFormat.INPUT_PIXELS, {"accuracy": 1.0})
    assert score.reward == 1.0
    swapped = Attempt(attempt.text, asked, (TALL, WIDE), own, get_template("r1"))
    (other,) = judge([swapped], BoxFormat.INPUT_PIXELS, {"accuracy": 1.0})
    assert other.reward < 1.0, "the control: read on the earlier image it would be elsewhere"


def test_a_question_without_an_image_asks_about_the_only_one_before():
    asked = record("rec", [20, 20, 150, 90], question="the cat", n_images=1)
    check_gold(asked, (WIDE,))
    assert Rec().gold_text(Rec().gold(asked), (WIDE,), BoxFormat.INPUT_PIXELS) == "[40, 40, 300, 180]"
    assert Rec().question(asked).startswith("Please provide"), "no mark: the image stands in its own turn"
    assert Rec().boxes(Rec().gold(asked)) == (PlacedBox((20, 20, 150, 90), -1),)


TWO = (Turn("user", "<image><image>Same?"), Turn("assistant", "No."))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        pytest.param(record("rec", BOX, "the cat", TWO), "wants exactly 1 image, got 2", id="two before, none in it"),
        pytest.param(record("rec", BOX, "<image><image>the cat", ()), "wants exactly 1 image, got 2", id="two in it"),
        pytest.param(record("rec", BOX, "the cat", (), 0), "wants exactly 1 image, got 0", id="none at all"),
    ],
)
def test_where_no_image_is_meant_it_is_said(asked, message):
    with pytest.raises(DataError, match=message):
        Rec().gold(asked)
    if len(asked.images) == 2:
        assert Rec(image=1).gold(asked) == tuple(BOX)


@pytest.fixture
def rows(tmp_path):
    """`rows(answer, question)`: what is read from a row with a wide image before and a tall one in the question."""
    Image.new("RGB", (200, 100)).save(tmp_path / "wide.png")
    Image.new("RGB", (100, 300)).save(tmp_path / "tall.png")

    def read(answer, question="<image>the cat", images=("wide.png", "tall.png"), **settings):
        said = [("human", "<image>Red?"), ("gpt", "Yes."), ("human", question), ("gpt", answer)]
        turns = [{"from": who, "value": text} for who, text in said]
        path = tmp_path / "a.jsonl"
        path.write_text(json.dumps({"conversations": turns, "images": list(images)}), encoding="utf-8")
        (found,) = RecordFile(DataSource(path=str(path), task="rec", **settings)).scan()
        return found

    return read


def test_rows_compare_boxes_with_the_image_that_they_lie_on(rows):
    assert rows(BOX).answer == BOX
    outside = rows([20, 20, 150, 90])
    assert isinstance(outside, Problem)
    assert "outside its image 100x300" in outside.message
    assert rows([20, 20, 150, 90], "the cat", ("wide.png",)).answer == [20, 20, 150, 90]


def test_rows_convert_boxes_by_the_image_that_they_lie_on(rows):
    # of 1000: x 200/1000 · 100 = 20, y 500/1000 · 300 = 150, 600/1000 · 100 = 60, 900/1000 · 300 = 270
    assert rows([200, 500, 600, 900], coordinates="norm_1000").answer == [20, 150, 60, 270]
    # x 0.2 · 200 = 40, y 0.5 · 100 = 50, 0.6 · 200 = 120, 0.9 · 100 = 90
    found = rows([0.2, 0.5, 0.6, 0.9], "the cat", ("wide.png",), coordinates="norm_1")
    assert found.answer == pytest.approx([40, 50, 120, 90])
