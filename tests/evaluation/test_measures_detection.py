"""Tables of a detection set: the confusion of labels by hand, and intervals over pictures."""

from __future__ import annotations

import pytest

from testing_pycocotools import pycocotools_stats
from testing_samples import gold_objects, objects, sample
from vlm_r1.evaluation.coco_results import coco_files
from vlm_r1.evaluation.measures import measure
from vlm_r1.evaluation.measures_detection import Answered, confusion, measure_set
from vlm_r1.parsing.labelled_boxes import LabelledBox

A, NEAR_A, HALF_A, B = (0, 0, 100, 100), (0, 0, 100, 90), (0, 0, 100, 50), (300, 0, 400, 100)


def answered(gold, found, picture="a.jpg"):
    sides = (tuple(LabelledBox(label, tuple(map(float, box))) for label, box in side) for side in (gold, found))
    return Answered(*sides, picture)


@pytest.mark.parametrize(
    ("gold", "found", "expected"),
    [
        pytest.param([("cat", A)], [("cat", A)], [("cat", "cat", 1)], id="right"),
        pytest.param([("cat", A)], [("dog", NEAR_A)], [("cat", "dog", 1)], id="confused"),
        pytest.param([("cat", A)], [("dog", B)], [("cat", None, 1), (None, "dog", 1)], id="elsewhere"),
        pytest.param([("cat", A)], [("cat", HALF_A)], [("cat", "cat", 1)], id="half is enough"),
        pytest.param([("cat", A)], [("cat", (0, 0, 100, 49))], [("cat", None, 1), (None, "cat", 1)], id="less is not"),
        pytest.param([("cat", A)], [("cat", NEAR_A), ("dog", A)], [("cat", "dog", 1), (None, "cat", 1)], id="nearest"),
        pytest.param([("cat", A)], [("dog", A), ("cat", A)], [("cat", "cat", 1), (None, "dog", 1)], id="equal labels"),
        pytest.param([("cat", A), ("dog", A)], [("dog", A)], [("dog", "dog", 1), ("cat", None, 1)], id="equal gold"),
        pytest.param([("red  cat", A)], [("red cat", A)], [("red cat", "red cat", 1)], id="normal form"),
        pytest.param([], [], [], id="nothing"),
    ],
)
def test_confusion(gold, found, expected):
    assert sorted(map(tuple, confusion([answered(gold, found)])), key=str) == sorted(expected, key=str)


def test_confusion_counts_over_answers_and_lists_the_most_frequent_first():
    answers = [answered([("cat", A)], [("dog", A)]), answered([("cat", A), ("cat", B)], [("dog", A), ("dog", B)])]
    assert confusion([*answers, answered([("cat", A)], [])]) == [["cat", "dog", 3], ["cat", None, 1]]


def test_a_label_that_nobody_found_and_one_that_is_nowhere():
    rows = {row["label"]: row for row in measure_set([[answered([("cat", A)], [("dog", A)])]], "one", 0).classes}
    assert (rows["cat"]["ap"], rows["cat"]["precision"], rows["cat"]["recall"]) == (0.0, None, 0.0)
    assert (rows["dog"]["ap"], rows["dog"]["precision"], rows["dog"]["recall"]) == (None, 0.0, None)


def test_nothing_at_all():
    numbers, summaries, classes = measure_set([[answered([], [])]], "one", seed=0)
    assert set(numbers.values()) == {-1.0}
    assert summaries == {}
    assert classes == []


def test_intervals_draw_pictures():
    # ten answers about each of four pictures, all right or all wrong
    def answers(picture_of):
        return [answered([("cat", A)], [("cat", A if i // 10 % 2 else B)], picture=picture_of(i)) for i in range(40)]

    together = measure_set([answers(lambda i: i // 10)], "one", seed=0).summaries
    apart = measure_set([answers(lambda i: i)], "one", seed=0).summaries
    for name in ("dataset_ap", "dataset_ap50", "gp", "gr"):
        assert together[name].mean == apart[name].mean
        width, narrow = (own[name].ci95[1] - own[name].ci95[0] for own in (together, apart))
        assert width > 1.5 * narrow > 0


def test_measure_agrees_with_pycocotools_on_our_files():
    answers = [
        sample(
            "ovd", gold_objects(("cat", A), ("dog", B)), objects(("cat", NEAR_A), ("dog", A), ("cat", B)), image="1"
        ),
        sample("ovd", gold_objects(("cat", B)), objects(("cat", A), ("cat", B)), image="2"),
        sample("ovd", "None", objects(("dog", (0, 0, 30, 30))), image="1"),
        sample("ovd", gold_objects(("dog", (0, 0, 20, 30))), "sorry", image="3"),
    ]
    expected = pycocotools_stats(*coco_files(answers, "one"))
    assert list(measure(answers, None, seed=0)["dataset"].values())[:12] == pytest.approx(expected, abs=1e-12)
    assert expected[0] > 0.1
