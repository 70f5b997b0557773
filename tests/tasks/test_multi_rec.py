"""Any number of boxes for one expression."""

import pytest

from vlm_r1.errors import DataError
from vlm_r1.tasks.multi_rec import MultiRec
from vlm_r1.types import BoxFormat, ImageFrame, Record

A, B, C = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0), (40.0, 0.0, 50.0, 10.0)
A_LOW = (0.0, 0.0, 10.0, 5.0)  # IoU 50 / 100 with A: a match
A_LOWER = (0.0, 0.0, 10.0, 4.9)
SENTENCE = "<image>Please provide the bounding box coordinates of all regions this sentence describes: "
FORM = (
    ' Output them in JSON format: ```json [{"bbox_2d": [x1, y1, x2, y2]}, {"bbox_2d": [x1, y1, x2, y2]}] ```. '
    "If there are none, simply respond with None."
)


def _record(answer=None, problem="<image>all dogs", images=("a.png",)):
    return Record("1", "multi_rec", problem, images, answer, source="f.jsonl:7")


@pytest.mark.parametrize(
    ("problem", "question"),
    [
        pytest.param("<image>all {red} dogs.", SENTENCE + "all {red} dogs." + FORM, id="expression"),
        pytest.param("<image>Bounding boxes of dogs", "<image>Bounding boxes of dogs", id="an_instruction"),
    ],
)
def test_question(problem, question):
    assert MultiRec().question(_record(problem=problem)) == question


@pytest.mark.parametrize(
    ("answer", "boxes"),
    [
        pytest.param([[0, 0, 10, 10], [20, 0, 30, 10]], (A, B), id="list"),
        pytest.param([{"bbox_2d": [0, 0, 10, 10]}, {"bbox": [20, 0, 30, 10], "label": "dog"}], (A, B), id="objects"),
        pytest.param("[[0, 0, 10, 10]]", (A,), id="text"),
        pytest.param([0, 0, 10, 10], (A,), id="one_box"),
        pytest.param([], (), id="empty_list"),
        pytest.param("None", (), id="none"),
    ],
)
def test_gold(answer, boxes):
    assert MultiRec().gold(_record(answer)) == boxes


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        pytest.param("dogs", r"is no list of boxes \(no_box\); wanted \"None\", or \[\[x1,", id="text"),
        pytest.param([[0, 0, 10]], r"\(wrong_arity\)", id="three_numbers"),
        pytest.param([[0, 0, 10, 10], None], r"\(item_without_box\)", id="null_item"),
        pytest.param(None, r"\(no_box\)", id="null"),
        pytest.param([[0, 0, 0, 10]], "has no area", id="line"),
    ],
)
def test_unusable_gold(answer, message):
    with pytest.raises(DataError, match=rf"^f\.jsonl:7: .*{message}"):
        MultiRec().gold(_record(answer))


def test_it_wants_one_image():
    with pytest.raises(DataError, match=r"task multi_rec wants exactly 1 image, got 2"):
        MultiRec().gold(_record([], images=("a.png", "b.png")))


def test_writes_its_gold_in_the_models_coordinates():
    frames = (ImageFrame((640, 480), (320, 960)),)
    gold = ((160.0, 240.0, 320.0, 480.0), (0.0, 0.0, 640.0, 480.0))
    text = MultiRec().gold_text(gold, frames, BoxFormat.NORM_1000_YX)
    assert text == '```json\n[{"bbox_2d": [500, 250, 1000, 500]}, {"bbox_2d": [0, 0, 1000, 1000]}]\n```'
    assert MultiRec().gold_text((), frames, BoxFormat.NORM_1000_YX) == "None"


@pytest.mark.parametrize(
    ("value", "gold", "expected"),  # F1, precision, recall, all right
    [
        pytest.param((A, B), (B, A), (1.0, 1.0, 1.0, 1.0), id="equal_in_any_order"),
        pytest.param((A, C), (A, B), (2 / 4, 1 / 2, 1 / 2, 0.0), id="one_right_one_wrong"),
        pytest.param((A,), (A, B, C), (2 / 4, 1.0, 1 / 3, 0.0), id="missing"),
        pytest.param((A, A, A), (A,), (2 / 4, 1 / 3, 1.0, 0.0), id="duplicates_are_surplus"),
        pytest.param((A_LOW,), (A,), (1.0, 1.0, 1.0, 1.0), id="exactly_one_half_matches"),
        pytest.param((A_LOWER,), (A,), (0.0, 0.0, 0.0, 0.0), id="below_one_half"),
        pytest.param((), (A,), (0.0, 0.0, 0.0, 0.0), id="nothing_seen"),
        pytest.param((A,), (), (0.0, 0.0, 0.0, 0.0), id="nothing_there"),
        pytest.param((), (), (1.0, 1.0, 1.0, 1.0), id="none_and_none"),
        pytest.param(None, (A,), (0.0, 0.0, 0.0, 0.0), id="nothing_parsed"),
        pytest.param(None, (), (0.0, 0.0, 0.0, 0.0), id="nothing_parsed_nothing_there"),
    ],
)
def test_metrics(value, gold, expected):
    """n_acc is measured where nothing is, t_acc where something is; both ask only whether any box was given."""
    presence = "t_acc" if gold else "n_acc"
    names = ("f1_iou50", "precision_iou50", "recall_iou50", "all_right_iou50", presence)
    said_right = value is not None and bool(value) == bool(gold)
    wanted = dict(zip(names, (*expected, float(said_right)), strict=True))
    assert MultiRec().metrics(value, gold) == pytest.approx(wanted, abs=1e-12)
