"""Numbers of one answer: which names each task has, readable or not. test_measures*.py have their values by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from testing_samples import gold_objects, objects, sample
from vlm_r1.evaluation.measures_values import OFFICIAL_FAILED, read_answer, threshold_name, values_of
from vlm_r1.evaluation.protocol import DataSet, Protocol
from vlm_r1.evaluation.sample_answers import official_value, task_of

A = (0, 0, 100, 100)
CAT = gold_objects(("cat", A))
OF_BOX = {"accuracy_iou50", "accuracy_iou75", "accuracy_iou90", "iou"}
OF_SET = {"f1_iou50", "precision_iou50", "recall_iou50"}
OF_LABELS = {*OF_SET, "map", "ap50", "label_precision", "label_recall"}


def protocol(**more):
    return Protocol(name="test", title="", data=DataSet(set=""), **more)


def values(answer, **more):
    task = task_of(answer)
    return values_of(answer, protocol(**more), task, task.gold(answer.record()), read_answer(answer, task))


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        pytest.param(sample("rec", [0, 0, 1, 1], "[0, 0, 1, 1]"), {*OF_BOX, "centre_in_box"}, id="rec"),
        pytest.param(sample("rec", [0, 0, 1, 1], "no"), {*OF_BOX, "centre_in_box"}, id="rec unreadable"),
        pytest.param(sample("ovd", CAT, objects(("cat", A))), OF_LABELS, id="ovd"),
        pytest.param(sample("ovd", CAT, "[{"), OF_LABELS, id="ovd unreadable"),
        pytest.param(sample("ovd", CAT, "None"), {*OF_LABELS, "rejection_precision"}, id="ovd rejected"),
        pytest.param(sample("ovd", "None", "[{"), {*OF_LABELS, "rejection_recall"}, id="ovd nothing there, unreadable"),
        pytest.param(
            sample("multi_rec", "None", "None"),
            {*OF_SET, "all_right_iou50", "n_acc", "rejection_recall", "rejection_precision"},
            id="multi_rec nothing there",
        ),
        pytest.param(sample("counting", 3, "4"), {"accuracy", "absolute_error", "relative_error"}, id="counting"),
        pytest.param(sample("counting", 3, "many"), {"accuracy"}, id="counting unreadable"),
        pytest.param(sample("document", "a", "a"), {"anls", "accuracy"}, id="document"),
    ],
)
def test_names(answer, names):
    own = values(answer)
    assert set(own.metrics) == names
    assert own.reason == answer.reason


def test_names_of_the_originals_reading():
    assert set(values(sample("rec", [0, 0, 1, 1], "[0, 0, 1, 1]"), reading="official").metrics) == OF_BOX
    detection = sample("ovd", CAT, objects(("cat", A)))
    assert set(values(detection, reading="official").metrics) == {"map", "ap50", "odlength"}


def test_where_the_original_fails_the_answer_is_wrong():
    answer = sample("ovd", CAT, f"<answer>```json\n{objects(('cat', A))}\n```</answer>", template="free")
    assert values(answer, reading="official").reason is None
    fenced = replace(answer, gold=f"```json\n{objects(('cat', A))[:-1]},]\n```")
    assert official_value(fenced, "od_ap") is None
    own = values_of(fenced, protocol(reading="official"), task_of(answer), (), ())
    assert own == ({"map": 0.0, "ap50": 0.0, "odlength": 0.0}, OFFICIAL_FAILED)


def test_names_of_thresholds_differ():
    names = {threshold_name(at) for at in (0.5, 0.55, 0.505, 0.9, 1.0)}
    assert len(names) == 5
