"""What may be asked of an image: completeness, limits, negatives."""

from collections import Counter

import pytest

from vlm_r1.converters.base import Line, Tally
from vlm_r1.converters.coco_layout import CocoObject
from vlm_r1.converters.detection import (
    CocoOptions,
    Contents,
    DetectionOptions,
    apply_limits,
    contents_of,
    detection_line,
    with_policy,
)
from vlm_r1.converters.pictures import Picture, Unusable
from vlm_r1.errors import ConfigError

PICTURE = Picture((100, 80))
LINE = Line("coco-1", "a.jpg", "", None)


def thing(label, *box, crowd=False):
    return CocoObject(label, box or (10, 10, 30, 40), crowd)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        pytest.param(thing("cat", crowd=True), "crowd region", id="crowd"),
        pytest.param(thing("cat", 5, 5, 5.9, 40), "thinner than 1 px", id="too thin"),
        pytest.param(thing("cat", 5, 5, 3, 40), "thinner than 1 px", id="negative width"),
        pytest.param(thing("cat", 99.5, 5, 140, 40), "outside its image", id="half a pixel inside"),
    ],
)
def test_a_category_with_an_unusable_box_is_not_asked(bad, reason):
    """Two cats of which one has no box: a model that finds both would be punished for it."""
    tally = Tally()
    contents = contents_of([thing("cat"), thing("dog"), bad], PICTURE, tally)
    assert contents == Contents({"dog": [(10, 10, 30, 40)]}, frozenset({"cat"}))
    assert tally.dropped == {("box", reason): 1, ("box", "its category is not boxed completely in the image"): 1}


@pytest.mark.parametrize(
    ("box", "kept", "noted"),
    [
        pytest.param((-0.7, 0, 50, 80.9), (0, 0, 50, 80), 0, id="rounded annotations reach over a little"),
        pytest.param((90, 70, 102, 90), (90, 70, 100, 80), 1, id="clearly over"),
        pytest.param((1.234, 5.678, 9.999, 50), (1.23, 5.68, 10, 50), 0, id="hundredths"),
    ],
)
def test_boxes_lie_on_their_image(box, kept, noted):
    tally = Tally()
    assert contents_of([thing("cat", *box)], PICTURE, tally).present == {"cat": [kept]}
    assert tally.notes.total() == noted


def test_boxes_of_an_image_that_is_stored_lying_down():
    """Stored 100×80 with orientation 6 is shown 80×100; (x, y) → (80 − y, x): corners (70, 10) and (40, 30)."""
    contents = contents_of([thing("cat", 10, 10, 30, 40)], Picture((80, 100), turn=6), Tally())
    assert contents.present == {"cat": [(40, 10, 70, 30)]}


CROWDED = Contents({"cat": [(1, 1, 5, 5)], "dog": [(2, 2, 9, 9)] * 3}, frozenset())


@pytest.mark.parametrize(
    ("options", "result"),
    [
        pytest.param({}, CROWDED, id="no limits"),
        pytest.param({"max_per_category": 3}, CROWDED, id="at the limit"),
        pytest.param(
            {"max_per_category": 2}, Contents({"cat": [(1, 1, 5, 5)]}, frozenset({"dog"})), id="category over the limit"
        ),
        pytest.param(
            {"max_per_category": 1, "too_many": "image"},
            Unusable("a category with more than 1 box"),
            id="drops the image",
        ),
        pytest.param({"max_boxes": 4}, CROWDED, id="at the limit of the image"),
        pytest.param({"max_boxes": 3}, Unusable("more than 3 boxes"), id="image over the limit"),
    ],
)
def test_limits(options, result):
    assert apply_limits(CROWDED, DetectionOptions(**options), Tally()) == result


def test_boxes_over_a_limit_are_counted():
    tally = Tally()
    apply_limits(CROWDED, DetectionOptions(max_per_category=2), tally)
    assert tally.dropped == {("box", "one of more than 2 of its category in the image"): 3}


@pytest.mark.parametrize(
    ("policy", "limits"),
    [
        pytest.param("coco_filtered", (10, "category", None), id="COCO_pos_1"),
        pytest.param("coco_pos_2", (1, "image", None), id="COCO_pos_2"),
        pytest.param("coco_pos_3", (None, "category", 10), id="COCO_pos_3"),
    ],
)
def test_policies(policy, limits):
    options = with_policy(CocoOptions(policy=policy))
    assert (options.max_per_category, options.too_many, options.max_boxes) == limits


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"policy": "coco_filtered", "max_boxes": 5}, id="a limit beside a policy"),
        pytest.param({"mode": "all", "negatives": (1, 3)}, id="negatives where everything is asked"),
        pytest.param({"too_many": "image"}, id="what a limit drops, without a limit"),
    ],
)
def test_options_without_effect(options):
    with pytest.raises(ConfigError, match=r"has no effect|sets the limits"):
        with_policy(CocoOptions(**options))


SMALL = Contents({"cat": [(1, 1, 5, 5)]}, frozenset())
ABSENT = [f"thing {i}" for i in range(20)]


def line(id_="coco-1", negatives=(1, 3), absent=ABSENT, contents=SMALL, **more):
    options = DetectionOptions(negatives=negatives, seed=more.pop("seed", 0))
    return detection_line(Line(id_, "a.jpg", "", None), contents, absent, options, Tally(), **more)


def test_negatives_are_the_records_own():
    assert line().question == line().question
    assert line().question != line("coco-2").question
    assert line().question != line(seed=1).question
    assert line().extra["targets"] == line().question.split(", ")


def test_number_and_place_of_negatives():
    """1 to 3 of them, each number about as often; the present name is not always the first."""
    lines = [line(f"coco-{i}") for i in range(600)]
    numbers = Counter(len(made.extra["targets"]) - 1 for made in lines)
    assert sorted(numbers) == [1, 2, 3]
    assert min(numbers.values()) > 160  # 200 expected, standard deviation 11.5
    places = Counter(made.extra["targets"].index("cat") for made in lines)
    assert places[0] < 400  # expected (1/2 + 1/3 + 1/4) / 3 = 36 % of 600: 217
    assert all(made.answer == [{"bbox_2d": [1, 1, 5, 5], "label": "cat"}] for made in lines)


def test_harder_negatives_go_first():
    targets = line(negatives=(3, 3), harder=["near", "nearer"]).extra["targets"]
    assert {"near", "nearer", "cat"} < set(targets)
    assert len(targets) == 4


def test_fewer_absent_names_than_asked_for():
    assert line(negatives=(3, 3), absent=["only"]).extra["targets"] in (["cat", "only"], ["only", "cat"])


def test_an_image_without_objects():
    empty = Contents({}, frozenset())
    tally = Tally()
    made = detection_line(LINE, empty, ["dog"], DetectionOptions(negatives=(1, 1)), tally)
    assert (made.question, made.answer) == ("dog", "None")
    assert tally.kept["record with the answer None"] == 1
    assert detection_line(LINE, empty, ["dog"], DetectionOptions(), tally) is None
    assert tally.dropped == {("image", "nothing to ask"): 1}
