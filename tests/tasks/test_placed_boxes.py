"""Boxes on a given image of several, and on each of two: each is written, read and checked with its own image."""

import math

import pytest

from testing_placed import FIND_TWICE, LAST_OVD, SECOND_MULTI_REC, SECOND_REC
from vlm_r1.errors import DataError
from vlm_r1.tasks import get_task
from vlm_r1.tasks.gui_click import GuiClick
from vlm_r1.tasks.judge import Attempt, check_gold, judge
from vlm_r1.tasks.multi_rec import MultiRec
from vlm_r1.tasks.ovd import Ovd
from vlm_r1.tasks.rec import Rec
from vlm_r1.tasks.templates import TEMPLATES, gold_completion
from vlm_r1.types import BoxFormat, ImageFrame, PlacedBox, Record

# Multiples of 32 and 24 in the first image are whole in every format: 32 · 1000 / 640 = 50, 24 · 1000 / 480 = 50.
# So are multiples of 2 in the second: 2 · 1000 / 100 = 20, 2 · 1000 / 200 = 10, 2 · 50 / 100 = 1.
WIDE = ImageFrame(original_wh=(640, 480), input_wh=(1280, 960))
TALL = ImageFrame(original_wh=(100, 200), input_wh=(50, 400))
FRAMES = (WIDE, TALL)
ON_WIDE, ON_TALL = [320, 240, 640, 480], [20, 40, 60, 180]
GOLD = {
    "testing_placed:FIND_TWICE": [ON_WIDE, ON_TALL],
    "testing_placed:SECOND_REC": ON_TALL,
    "testing_placed:SECOND_MULTI_REC": [ON_TALL, [2, 4, 10, 12]],
    "testing_placed:LAST_OVD": [{"bbox_2d": ON_TALL, "label": "cat"}],
}
WEIGHTS = {"accuracy": 1.0, "format": 1.0}


def _record(task, answer, images=("a.png", "b.png")):
    return Record("1", task, "<image>" * len(images) + "the cat", images, answer, source="f.jsonl:7")


def _judge_gold(task, box_format, seen):
    """Write the gold answer with `FRAMES`, and judge it with these frames."""
    record, template = _record(task, GOLD[task]), TEMPLATES["r1"]
    text = gold_completion(get_task(task), record, FRAMES, box_format, template)
    return judge([Attempt(text, record, seen, get_task(task), template)], box_format, WEIGHTS)[0]


@pytest.mark.parametrize("box_format", BoxFormat)
@pytest.mark.parametrize("task", GOLD)
def test_the_gold_answer_scores_full_marks_by_its_own_frames_only(task, box_format):
    assert _judge_gold(task, box_format, FRAMES).parts == {"accuracy": pytest.approx(1.0), "format": 1.0}
    swapped = _judge_gold(task, box_format, (TALL, WIDE)).parts
    if box_format is BoxFormat.ORIGINAL_PIXELS:  # these need no frame
        assert swapped["accuracy"] == pytest.approx(1.0)
    else:
        assert swapped["accuracy"] < 0.5


@pytest.mark.parametrize("task", GOLD)
def test_boxes_are_compared_with_their_own_image(task):
    record = _record(task, GOLD[task])
    check_gold(record, FRAMES)
    small = ImageFrame((59, 179), (59, 179))  # one pixel less than the box on the second image reaches
    check_gold(record, (WIDE, small))
    smaller = ImageFrame((58, 180), (58, 180))
    with pytest.raises(
        DataError, match=r"^f\.jsonl:7: .*60.* on image -?1 reaches outside its image of 58 × 180 pixels"
    ):
        check_gold(record, (WIDE, smaller))


def test_a_box_outside_the_second_image_lies_inside_the_first():
    outside = [300, 40, 400, 180]
    check_gold(_record("testing_placed:FIND_TWICE", [outside, ON_TALL]), FRAMES)
    message = r"^f\.jsonl:7: the gold box \[300\.0, .*\] on image 1 reaches outside its image of 100 × 200 pixels"
    with pytest.raises(DataError, match=message):
        check_gold(_record("testing_placed:FIND_TWICE", [ON_WIDE, outside]), FRAMES)
    with pytest.raises(DataError, match=message):
        check_gold(_record("testing_placed:SECOND_REC", outside), FRAMES)


@pytest.mark.parametrize(
    ("task", "answer", "boxes", "written"),
    [
        pytest.param(
            FIND_TWICE,
            [ON_WIDE, ON_TALL],
            [(ON_WIDE, 0), (ON_TALL, 1)],
            [{"bbox_2d": ON_WIDE, "image": 0}, {"bbox_2d": ON_TALL, "image": 1}],
            id="a_box_on_each",
        ),
        pytest.param(SECOND_REC, ON_TALL, [(ON_TALL, 1)], {"bbox_2d": ON_TALL, "image": 1}, id="rec"),
        pytest.param(SECOND_MULTI_REC, [ON_TALL], [(ON_TALL, 1)], [{"bbox_2d": ON_TALL, "image": 1}], id="multi_rec"),
        pytest.param(
            LAST_OVD,
            [{"bbox_2d": ON_TALL, "label": "cat"}],
            [(ON_TALL, -1)],
            [{"bbox_2d": ON_TALL, "label": "cat", "image": -1}],
            id="ovd",
        ),
    ],
)
def test_boxes_and_answers_name_their_image(task, answer, boxes, written):
    gold = task.gold(_record(task.name, answer))
    assert task.boxes(gold) == tuple(PlacedBox(tuple(box), image) for box, image in boxes)
    assert task.answer_json(gold) == written


@pytest.mark.parametrize(
    ("task", "answer", "boxes"),
    [
        pytest.param(Rec(), ON_TALL, [ON_TALL], id="rec"),
        pytest.param(MultiRec(), [ON_TALL, ON_WIDE], [ON_TALL, ON_WIDE], id="multi_rec"),
        pytest.param(Ovd(), [{"bbox_2d": ON_TALL, "label": "cat"}], [ON_TALL], id="ovd"),
    ],
)
def test_boxes_on_the_only_image_do_not(task, answer, boxes):
    gold = task.gold(_record(task.name, answer, images=("a.png",)))
    assert task.boxes(gold) == tuple(PlacedBox(tuple(box), -1) for box in boxes)  # the last image
    assert task.answer_json(gold) == answer


@pytest.mark.parametrize("make", [Rec, MultiRec, Ovd, GuiClick])
@pytest.mark.parametrize(
    ("image", "n_images", "wanted"),
    [
        pytest.param(2, 2, 3, id="third_of_two"),
        pytest.param(-3, 2, 3, id="third_from_the_end_of_two"),
        pytest.param(-1, 0, 1, id="last_of_none"),
    ],
)
def test_the_named_image_must_be_there(make, image, n_images, wanted):
    record = _record(make.name, ON_TALL, images=("a.png",) * n_images)
    with pytest.raises(DataError, match=rf"lies on image {image} .* {n_images} images; wanted at least {wanted}$"):
        make(image=image).gold(record)


def test_a_task_that_does_not_look_is_told_too():
    with pytest.raises(DataError, match=r"lies on image 1 .* the record has 1 images; wanted at least 2"):
        check_gold(_record("testing_placed:FIND_TWICE", [ON_WIDE, ON_TALL], images=("a.png",)), FRAMES[:1])


@pytest.mark.parametrize("task", [Rec(), MultiRec(), Ovd()], ids=lambda task: task.name)
def test_without_a_named_image_several_are_an_error_that_says_what_to_do(task):
    with pytest.raises(
        DataError, match=r"wants exactly 1 image, got 2; name the image of the boxes, e\.g\. Rec\(image=1"
    ):
        task.gold(_record(task.name, ON_TALL))


@pytest.mark.parametrize(
    ("image", "diagonal_px"),
    [pytest.param(0, 800.0, id="first"), pytest.param(-1, 100 * math.sqrt(5), id="last")],
)
def test_a_distance_is_a_share_of_the_regions_own_image(image, diagonal_px):
    """The point lies 10 pixels right of the region, and near / e is earned at a tenth of the diagonal."""
    task = GuiClick(image=image)
    record = Record("1", "x", "<image><image>OK", ("a.png", "b.png"), [20, 40, 60, 80], "", "point_distance")
    attempt = Attempt("[70, 60]", record, FRAMES, task, TEMPLATES["direct"])
    (score,) = judge([attempt], BoxFormat.ORIGINAL_PIXELS, {"accuracy": 1.0})
    assert score.reward == pytest.approx(0.5 * math.exp(-10 / (0.1 * diagonal_px)))
