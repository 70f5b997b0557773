"""Subsets of records, by hand."""

from __future__ import annotations

import pytest

from testing_samples import gold_objects, objects, sample
from vlm_r1.evaluation.measures import measure
from vlm_r1.evaluation.measures_subsets import MOST_VALUES, OTHERS, members_of, subset_of
from vlm_r1.evaluation.protocol import DataSet, Protocol


def boxes(*sides):
    return [(0.0, 0.0, float(side), float(side)) for side in sides]


@pytest.mark.parametrize(
    ("gold", "size", "count"),
    [
        pytest.param([], "none", "0", id="none"),
        pytest.param(boxes(31), "small", "1", id="small"),
        pytest.param(boxes(32), "medium", "1", id="1024"),
        pytest.param(boxes(95), "medium", "1", id="medium"),
        pytest.param(boxes(96), "large", "1", id="9216"),
        pytest.param(boxes(10, 20, 30), "small", "3", id="three small"),
        pytest.param(boxes(10, 20, 30, 40), "mixed", "4-7", id="small and medium"),
        pytest.param(boxes(*[10] * 8), "small", "8+", id="eight"),
    ],
)
def test_size_and_number(gold, size, count):
    found = subset_of(sample("rec", [0, 0, 1, 1], ""), gold, ())
    assert (found["box_size"], found["objects"]) == (size, count)


@pytest.mark.parametrize(
    ("words", "name"), [(0, "0"), (1, "1-3"), (3, "1-3"), (4, "4-6"), (10, "7-10"), (20, "11-20"), (21, "21+")]
)
def test_length_of_the_expression(words, name):
    problem = "<image>" + " ".join(["word"] * words)
    assert subset_of(sample("vqa", "a", "a", problem=problem), None, ())["words"] == name


def test_source_and_keys():
    answer = sample("vqa", "a", "a", source="sets/x:y.jsonl:12", columns={"platform": "mobile", "year": 2024})
    found = subset_of(answer, None, ("platform", "year", "split"))
    assert found == {
        "words": "1-3",
        "source": "sets/x:y.jsonl",
        "platform": "mobile",
        "year": "2024",
        "split": "(none)",
    }


def test_keys_with_one_value_split_nothing_but_for_those_asked_for():
    rows = [{"source": "a", "platform": "web"}, {"source": "a", "platform": "web"}]
    assert members_of(rows, ("platform",)) == {"platform": {"web": [0, 1]}}


def test_order_of_values_and_records_without_the_key():
    rows = [{"box_size": "large"}, {}, {"box_size": "small"}, {"box_size": "none"}, {"box_size": "large"}]
    assert list(members_of(rows, ())["box_size"].items()) == [("none", [3]), ("small", [2]), ("large", [0, 4])]


def test_rare_values_are_put_together():
    rows = [{"id": f"{i}"} for i in range(MOST_VALUES + 5)] + [{"id": "7"}]
    found = members_of(rows, ("id",))["id"]
    assert len(found) == MOST_VALUES + 1
    assert found["7"] == [7, MOST_VALUES + 5]
    assert len(found[OTHERS]) == 5


def test_metrics_of_subsets():
    # small boxes: right, wrong; the large one is right
    answers = [
        sample("rec", [0, 0, 10, 10], "[0, 0, 10, 10]", columns={"platform": "web"}, image="a.jpg"),
        sample("rec", [0, 0, 10, 10], "[0, 0, 10, 4]", columns={"platform": "mobile"}, image="b.jpg"),
        sample("rec", [0, 0, 100, 100], "[0, 0, 100, 100]", columns={"platform": "mobile"}, image="c.jpg"),
    ]
    protocol = Protocol(name="test", title="", data=DataSet(set=""), subsets_by=("platform",))
    subsets = measure(answers, protocol, seed=0)["subsets"]
    assert {key: {name: part["n"] for name, part in own.items()} for key, own in subsets.items()} == {
        "box_size": {"small": 2, "large": 1},
        "platform": {"mobile": 2, "web": 1},
    }
    small = subsets["box_size"]["small"]["metrics"]["accuracy_iou50"]
    assert (small["mean"], small["ci95"], small["n"]) == (1 / 2, [0.0, 1.0], 2)
    assert subsets["platform"]["mobile"]["metrics"]["iou"]["mean"] == pytest.approx((0.4 + 1) / 2)


def test_detection_records_without_a_target_are_a_subset():
    box = (0, 0, 10, 10)
    answers = [sample("ovd", "None", "None"), sample("ovd", gold_objects(("cat", box)), objects(("cat", box)))]
    assert list(measure(answers, None, seed=0)["subsets"]["objects"]) == ["0", "1"]
