"""What `data check` notices: each finding on data that has it, and nothing on data that has not."""

import random

import pytest

from vlm_r1.curation.statistics import describe_fields, find_duplicates, find_leakage, guess_coordinates
from vlm_r1.parsing.gold_boxes import boxes_in
from vlm_r1.types import Record


def _boxes(wh, n=200, seed=0):
    """Honest boxes of pixels, all over images of one size; half of them at an edge, as in photographs."""
    rng, (width, height) = random.Random(seed), wh
    boxes = []
    for _ in range(n):
        x1, y1 = rng.uniform(0, width - 2), rng.uniform(0, height - 2)
        x2, y2 = rng.uniform(x1 + 1, width), rng.uniform(y1 + 1, height)
        boxes.append(((x1, y1, width if rng.random() < 0.5 else x2, y2), wh))
    return boxes


def _written(boxes, how):
    return [(how(box, wh), wh) for box, wh in boxes]


def _norm(scale):
    return lambda box, wh: tuple(scale * v / side for v, side in zip(box, (*wh, *wh), strict=True))


def _as_wh(box, wh):
    return (box[0], box[1], box[2] - box[0], box[3] - box[1])


def _as_yx(box, wh):
    return (box[1], box[0], box[3], box[2])


@pytest.mark.parametrize("wh", [(640, 480), (480, 640), (1000, 700), (1920, 1280), (56, 56), (4000, 3000)])
def test_pixels_look_like_pixels(wh):
    assert guess_coordinates(_boxes(wh)) is None


@pytest.mark.parametrize(
    ("wh", "how", "advice"),
    [
        pytest.param((640, 480), _norm(1000), "set coordinates: norm_1000", id="1000 on smaller images"),
        pytest.param((1920, 1280), _norm(1000), "set coordinates: norm_1000", id="1000 on larger images"),
        pytest.param((640, 480), _norm(1), "set coordinates: norm_1", id="1"),
        pytest.param((640, 480), _as_wh, "write x1, y1, x2, y2", id="width and height"),
        pytest.param((640, 320), _as_yx, "swap the axes", id="y first"),
    ],
)
def test_other_coordinates_are_named(wh, how, advice):
    found = guess_coordinates(_written(_boxes(wh), how))
    assert found is not None
    assert found.endswith(advice)


def test_few_boxes_say_nothing():
    assert guess_coordinates(_written(_boxes((640, 480), n=19), _norm(1000))) is None


@pytest.mark.parametrize("n", [1, 3, 19])
def test_few_boxes_out_of_order_say_that_they_are_widths_and_heights(n):
    boxes = [((400, 300, 120, 90 + i), (640, 480)) for i in range(n)]  # 400 > 120, and 400 + 120 <= 640
    advice = "the boxes look like x, y, width, height (100% have x1 >= x2 or y1 >= y2, and 100% fit"
    assert (guess_coordinates(boxes) or "").startswith(advice)
    too_wide = [*boxes, ((600, 300, 120, 90), (640, 480))]  # 600 + 120 > 640
    assert guess_coordinates(too_wide) is None


def test_some_out_of_order_say_it_if_all_fit_that_way():
    """2 of 100 have x1 >= x2. As corners half of such boxes would leave their image when read as widths and heights."""
    boxes = [((10, 10, 100, 100 + i), (640, 480)) for i in range(98)] + [((400, 10, 120, 90), (640, 480))] * 2
    assert (guess_coordinates(boxes) or "").startswith("the boxes look like x, y, width, height (2% have x1 >= x2")
    corners = [*boxes[:-3], ((500, 10, 600, 90), (640, 480)), *boxes[-2:]]  # 500 + 600 > 640
    assert guess_coordinates(corners) is None


def test_few_boxes_of_fractions_say_that_they_are_normalised():
    assert "set coordinates: norm_1" in (guess_coordinates([((0.1, 0.2, 0.5, 0.6), (640, 480))]) or "")
    assert guess_coordinates([((0, 0, 1, 1), (2, 2))]) is None  # a pixel
    assert guess_coordinates([]) is None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param([1, 2, 3, 4], [(1, 2, 3, 4)], id="box"),
        pytest.param([[1, 2, 3, 4], [5, 6, 7, 8]], [(1, 2, 3, 4), (5, 6, 7, 8)], id="boxes"),
        pytest.param('[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]', [(1, 2, 3, 4)], id="text"),
        pytest.param({"bbox": [1, 2, 3, 4], "points": [[1, 2]]}, [(1, 2, 3, 4)], id="object"),
        pytest.param([1, 2, 3], [], id="three numbers"),
        pytest.param([True, 2, 3, 4], [], id="a boolean is no number"),
        pytest.param("[" * 100_000, [], id="nested text"),
        pytest.param("None", [], id="none"),
        pytest.param("It is at [1, 2, 3, 4.5].", [(1, 2, 3, 4.5)], id="in a sentence"),
        pytest.param({"bbox_2d": [1, 2, 3, 4], "colour": [9, 9, 9, 9]}, [(1, 2, 3, 4)], id="its own key alone"),
        pytest.param("cat(1,2),(3,4) dog(5,6),(7,8)", [(1, 2, 3, 4), (5, 6, 7, 8)], id="corners in round brackets"),
        pytest.param("(1,2)", [], id="one corner"),
        pytest.param([[[1, 2, 3, 4]]], [(1, 2, 3, 4)], id="nested"),
    ],
)
def test_boxes_in(answer, expected):
    assert list(boxes_in(answer)) == expected


def _record(n, problem="<image>cat", image="a.png", answer=(1, 2, 3, 4), **columns):
    return Record(str(n), "rec", problem, (image,), list(answer), source=f"f.jsonl:{n}", columns=columns)


def test_duplicates():
    records = [
        _record(1),
        _record(2, problem="<image> cat", image="copy_of_a.png"),  # same pixels, other name
        _record(3, problem="<image>dog"),
        _record(4, problem="<image>dog", answer=(9, 9, 20, 20)),
        _record(4, problem="<image>bird"),
    ]
    found = find_duplicates(records, {"a.png": "h", "copy_of_a.png": "h"})
    assert found == [
        "2 records asked more than once on the same pictures, with the same answer: f.jsonl:1; f.jsonl:2",
        "2 records asked more than once on the same pictures, with different answers: f.jsonl:3; f.jsonl:4",
        "2 records share their id: f.jsonl:4; f.jsonl:4",
    ]
    assert find_duplicates([_record(1), _record(2, image="b.png")], {"a.png": "h", "b.png": "i"}) == []


def test_leakage():
    train = [_record(1), _record(2), _record(3, image="b.png")]
    test = [_record(7, image="other/name.png")]
    shared = find_leakage(train, {"a.png": "h", "b.png": "i"}, test, {"other/name.png": "h"})
    assert shared == "1 pictures, of 2 records, stand in both, e.g. f.jsonl:1 and f.jsonl:7"
    assert find_leakage(train, {"a.png": "h", "b.png": "i"}, test, {"other/name.png": "j"}) is None


def test_fields_by_hand():
    records = [_record(n, answer=(n, 0, 50, 50), difficulty=n / 10, kind="a" if n < 8 else "b") for n in range(10)]
    fields = {one.name: one for one in describe_fields(records)}
    assert list(fields) == ["id", "problem", "images", "answer", "difficulty", "kind"]
    assert fields["problem"].summary == "<image>cat (10)"
    assert (fields["kind"].values, fields["kind"].summary) == (2, "a (8), b (2)")
    assert fields["difficulty"].summary == "0 to 0.9, mean 0.45"
    assert fields["answer"].kinds == "list (10)"
