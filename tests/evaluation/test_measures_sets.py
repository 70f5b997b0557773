"""Numbers of answers that are sets of boxes, each computed by hand, with an answer that must change it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from testing_samples import gold_objects, objects, sample
from vlm_r1.errors import DataError
from vlm_r1.evaluation.measures import measure
from vlm_r1.evaluation.protocol import DataSet, Protocol

GOLD, NONE = [0, 0, 100, 100], "None"


def protocol(**more):
    return Protocol(name="test", title="Test", data=DataSet(set="Test"), **more)


def means(samples, **more):
    return {name: own["mean"] for name, own in measure(samples, protocol(**more), seed=0)["metrics"].items()}


def test_rejection_of_absent_targets():
    # nothing there: said None, said a box, unreadable → recall 1/3. Said None: once rightly, once not → precision 1/2
    answers = [
        sample("multi_rec", NONE, NONE),
        sample("multi_rec", NONE, "[[1, 2, 3, 4]]"),
        sample("multi_rec", NONE, "[["),
        sample("multi_rec", [GOLD], NONE),
        sample("multi_rec", [GOLD], "[[0, 0, 100, 100]]"),
    ]
    found = means(answers)
    assert found["n_acc"] == found["rejection_recall"] == pytest.approx(1 / 3)
    assert found["t_acc"] == 1 / 2
    assert found["rejection_precision"] == 1 / 2
    assert found["f1_iou50"] == pytest.approx(2 / 5)
    assert means(answers[:1])["rejection_precision"] == 1.0


A, B, C = (0, 0, 100, 100), (200, 0, 300, 100), (0, 200, 100, 300)


def test_detection_by_hand():
    answers = [
        # both found, and one more: precision 2/3, F1 4/5; AP of cat 1, of dog 1 (the bird costs nothing)
        sample(
            "ovd", gold_objects(("cat", A), ("dog", B)), objects(("cat", A), ("dog", B), ("bird", C)), image="1.jpg"
        ),
        # the dog is called a cat: nothing right
        sample("ovd", gold_objects(("dog", A)), objects(("cat", A)), image="2.jpg"),
        sample("ovd", NONE, NONE, image="3.jpg"),
        sample("ovd", gold_objects(("cat", C)), "sorry [", image="4.jpg"),
    ]
    result = measure(answers, None, seed=0)
    found = {name: own["mean"] for name, own in result["metrics"].items()}
    assert found["map"] == found["ap50"] == pytest.approx((1 + 0 + 1 + 0) / 4)
    assert found["f1_iou50"] == pytest.approx((4 / 5 + 0 + 1 + 0) / 4)
    assert found["rejection_recall"] == found["rejection_precision"] == 1.0
    # over the set: of two cats one is found, then one is wrong: AP 51/101; of two dogs one: 51/101
    assert found["dataset_ap"] == found["dataset_ap50"] == result["dataset"]["ap"] == pytest.approx(51 / 101)
    assert (found["gp"], found["gr"]) == (2 / 4, 2 / 4)
    assert result["classes"] == [
        {"label": "cat", "gold": 2, "predicted": 2, "ap": pytest.approx(51 / 101), "ap50": pytest.approx(51 / 101),
         "precision": 1 / 2, "recall": 1 / 2},
        {"label": "dog", "gold": 2, "predicted": 1, "ap": pytest.approx(51 / 101), "ap50": pytest.approx(51 / 101),
         "precision": 1.0, "recall": 1 / 2},
        {"label": "bird", "gold": 0, "predicted": 1, "ap": None, "ap50": None, "precision": 0.0, "recall": None},
    ]  # fmt: skip
    assert sorted(map(tuple, result["confusion"]), key=str) == sorted(
        [("cat", "cat", 1), ("dog", "dog", 1), (None, "bird", 1), ("dog", "cat", 1), ("cat", None, 1)], key=str
    )
    assert measure(answers[:1], None, seed=0)["dataset"]["gp"] == 2 / 3


def test_nms_ap_is_lower_where_labels_are_piled_up():
    pile = objects(("cat", A), ("dog", A))
    answers = [sample("ovd", gold_objects((label, A)), pile, image=f"{label}.jpg") for label in ("cat", "dog")]
    found = means(answers)
    # each label: the one of its image is right, the other one is wrong, and the first image comes first
    assert found["dataset_ap"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["nms_ap"] == pytest.approx((0 + 1 / 2) / 2)  # of each pile the last stays: the dogs


def test_confidence_orders_the_boxes_of_all_images():
    # by order: the right ones, first in their answers, come before the wrong second ones. Without: image by image
    answers = [
        sample("ovd", gold_objects(("cat", A)), objects(("cat", A), ("cat", B)), image="1.jpg"),
        sample("ovd", gold_objects(("cat", A)), objects(("cat", A)), image="2.jpg"),
    ]
    assert means(answers, confidence="order")["dataset_ap"] == pytest.approx(1.0)
    assert means(answers, confidence="one")["dataset_ap"] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_draws_of_detection():
    # AP 1 in the first draw, 0 in the second; GP over both 1/2
    answers = [
        sample("ovd", gold_objects(("cat", A)), objects(("cat", box)), record_id="x", draw=draw)
        for draw, box in enumerate((A, B))
    ]
    found = means(answers)
    assert (found["dataset_ap"], found["nms_ap"], found["gp"]) == pytest.approx((1 / 2, 1 / 2, 1 / 2))


def test_the_originals_reading_of_detection():
    text = (
        '<think></think><answer>```json\n[{"bbox_2d": [0, 0, 100, 100], "label": "cat"}, {"label": "x"}]\n```</answer>'
    )
    answer = sample("ovd", gold_objects(("cat", A)), text, template="free")
    assert answer.reason == "item_without_box"
    assert means([answer])["map"] == 0
    found = means([answer], reading="official")
    assert (found["map"], found["ap50"]) == pytest.approx((1.0, 1.0))
    assert found["odlength"] == pytest.approx(1 / 2)


def test_overall_is_the_mean_of_aspects_of_subsets():
    def one(subset, box, **more):
        columns = {"subset": subset} if subset != "colour" else {}
        source = f"sets/{subset}.jsonl:{more.pop('line', 1)}"
        return sample("ovd", gold_objects(("cat", A)), objects(("cat", box)), columns=columns, source=source, **more)

    answers = [one("logo", A), one("landmark", B), one("colour", A), one("colour", B, line=2, image="z.jpg")]
    aspects = {"object": ("logo", "landmark"), "attribute": ("colour",)}
    result = measure(answers, protocol(aspects=aspects, metrics=("overall", "nms_ap")), seed=0)
    colour = 51 / 101  # of two, the first is right
    assert result["dataset"]["aspects"] == {
        "object": {"logo": pytest.approx(1.0), "landmark": 0.0},
        "attribute": {"colour": pytest.approx(colour)},
    }
    assert result["metrics"]["overall"]["mean"] == pytest.approx((1 / 2 + colour) / 2)
    low, high = result["metrics"]["overall"]["ci95"]
    assert low < result["metrics"]["overall"]["mean"] < high
    assert list(result["metrics"])[:2] == ["overall", "nms_ap"]
    without = measure(answers[1:], protocol(aspects=aspects, metrics=("overall", "nms_ap")), seed=0)
    assert without["dataset"]["overall"] is None
    assert without["dataset"]["aspects"]["object"]["logo"] is None
    assert without["unmeasured"] == ["overall"]


@pytest.mark.parametrize("answer", ["x", ["x"], [{"bbox_2d": [1, 2, 3, 4]}], [{"label": "cat"}]])
def test_damaged_detection_samples_are_named(answer):
    damaged = replace(sample("ovd", gold_objects(("cat", A)), objects(("cat", A))), answer=answer)
    with pytest.raises(DataError, match="the answer holds"):
        measure([damaged], None, seed=0)
