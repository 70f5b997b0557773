"""Numbers of an evaluation from constructed answers, each computed by hand, with an answer that must change it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from testing_samples import gold_objects, objects, sample
from vlm_r1.errors import DataError
from vlm_r1.evaluation.measures import measure
from vlm_r1.evaluation.metrics import bootstrap_ci
from vlm_r1.evaluation.protocol import DataSet, Protocol

GOLD = [0, 0, 100, 100]  # of which [0, 0, 100, h] has IoU h / 100


def protocol(**more):
    return Protocol(name="test", title="Test", data=DataSet(set="Test"), **more)


def rec(text, **more):
    return sample("rec", GOLD, text, **{"image": f"{more.get('record_id', text)}.jpg", **more})


def means(samples, **more):
    return {name: own["mean"] for name, own in measure(samples, protocol(**more), seed=0)["metrics"].items()}


# ---- boxes ---------------------------------------------------------------------------------------------------------


def test_accuracies_and_mean_iou():
    # IoU 1, 0.8, 0.6, 0.5 (not above 0.5) and unreadable
    answers = [rec(text) for text in ("[0,0,100,100]", "[0,0,100,80]", "[0,0,100,60]", "[0,0,100,50]", "nowhere")]
    assert means(answers) == pytest.approx(
        {
            "accuracy_iou50": 3 / 5,
            "accuracy_iou75": 2 / 5,
            "accuracy_iou90": 1 / 5,
            "iou": 2.9 / 5,
            "centre_in_box": 4 / 5,
        }
    )
    assert means(answers[1:])["iou"] == pytest.approx(1.9 / 4)


@pytest.mark.parametrize(("inclusive", "accuracy"), [(False, 0.0), (True, 1.0)])
def test_an_iou_equal_to_the_threshold(inclusive, accuracy):
    assert means([rec("[0,0,100,50]")], inclusive=inclusive)["accuracy_iou50"] == accuracy


def test_thresholds_of_the_protocol():
    found = means([rec("[0,0,100,65]")], thresholds=(0.6, 0.7))
    assert found == {"accuracy_iou60": 1.0, "accuracy_iou70": 0.0, "iou": 0.65, "centre_in_box": 1.0}


@pytest.mark.parametrize(
    ("text", "hit"),
    [("[0,0,200,200]", 1.0), ("[2,0,200,200]", 0.0), ("[99,99,99,99]", 1.0)],
    ids=["edge", "out", "point"],
)
def test_point_in_box(text, hit):
    assert means([rec(text)])["centre_in_box"] == hit


SEVERAL = "no: [0, 0, 100, 60], no: [0, 0, 400, 100], but [0, 0, 100, 90]"


@pytest.mark.parametrize(
    ("several", "overlap", "failures"),
    [
        pytest.param("error", 0.0, {"several_boxes": 1}, id="error"),
        pytest.param("first", 0.6, {}, id="first"),
        pytest.param("last", 0.9, {}, id="last"),
        pytest.param("largest", 0.25, {}, id="largest"),
    ],
)
def test_several_boxes(several, overlap, failures):
    result = measure([rec(SEVERAL)], protocol(several=several), seed=0)
    assert result["metrics"]["iou"]["mean"] == pytest.approx(overlap)
    assert result["parse_failures"] == failures


def test_several_boxes_are_read_in_the_models_coordinates():
    # 0 to 1000 of 640 × 480: [0, 0, 156.25, 208.33] is the gold box
    text = "<think>[9, 9, 99, 99]</think><answer>[0, 0, 156.25, 208.3333333333] or [1, 1, 2, 2]</answer>"
    answer = rec(text, box_format="norm_1000", template="r1")
    assert answer.reason == "several_boxes"
    assert means([answer], several="first")["iou"] == pytest.approx(1.0)
    assert means([answer], several="last")["iou"] == pytest.approx(0.64 * 0.48 / 1e4)


def test_what_has_no_answer_tag_stays_unreadable():
    answer = rec("<think>[1, 1, 2, 2] or [0, 0, 100, 100]</think>", template="r1")
    result = measure([answer], protocol(several="last"), seed=0)
    assert result["parse_failures"] == {"no_answer_tag": 1}
    assert result["metrics"]["iou"]["mean"] == 0


def test_the_originals_reading():
    # it reads whole numbers in braces, of the first answer, the last box; ours the last answer, and one box only
    texts = {
        "<answer>{[0, 0, 100, 80]}</answer>": (0.8, 0.8),
        "<answer>{[0, 0, 100, 80.0]}</answer>": (0.8, 0.0),
        "<answer>{[0, 0, 100, 80] [0, 0, 100, 60]}</answer>": (0.0, 0.6),
        "<answer>{[0, 0, 100, 60]}</answer><answer>{[0, 0, 100, 80]}</answer>": (0.8, 0.6),
        "[0, 0, 100, 80]": (0.0, 0.0),
    }
    answers = [rec(text, template="free") for text in texts]
    for answer, (ours, official) in zip(answers, texts.values(), strict=True):
        assert means([answer])["iou"] == pytest.approx(ours), answer.text
        assert means([answer], reading="official")["iou"] == pytest.approx(official), answer.text
    found = means(answers, reading="official")
    assert found["iou"] == pytest.approx(2.0 / 5)
    assert found["accuracy_iou50"] == 3 / 5
    assert found["accuracy_iou75"] == 1 / 5


def test_the_originals_reading_scales_boxes_of_the_resized_image():
    answer = rec("<answer>{[0, 0, 50, 50]}</answer>", template="free", box_format="input_pixels", input_size=(320, 240))
    assert means([answer], reading="official")["iou"] == means([answer])["iou"] == 1.0
    raw = rec("<answer>{[0, 0, 50, 50]}</answer>", template="free")
    assert means([raw], reading="official")["iou"] == 0.25


# ---- levels, draws and intervals -----------------------------------------------------------------------------------


def test_level():
    # one object with three expressions, all right; another with one, wrong
    other = sample("rec", [300, 300, 400, 400], "[0,0,100,100]", image="a.jpg")
    answers = [*(rec("[0,0,100,100]", image="a.jpg", record_id=f"{i}") for i in range(3)), other]
    by_expression, by_object = (measure(answers, protocol(level=level), seed=0) for level in ("expression", "object"))
    assert by_expression["metrics"]["iou"] | {"ci95": 0} == {"mean": 3 / 4, "ci95": 0, "n": 4}
    assert by_object["metrics"]["iou"] | {"ci95": 0} == {"mean": 1 / 2, "ci95": 0, "n": 2}


def test_the_same_box_on_another_image_is_another_object():
    answers = [rec(text, image=image) for text, image in (("[0,0,100,100]", "a.jpg"), ("no", "a.jpg"), ("no", "b.jpg"))]
    assert means(answers, level="object")["iou"] == pytest.approx((1 / 2 + 0) / 2)


def test_intervals_draw_images():
    answers = [rec("[0,0,100,100]" if i % 4 else "no", image=f"{i // 8}.jpg", record_id=f"{i}") for i in range(64)]
    own = measure(answers, None, seed=3)["metrics"]["accuracy_iou50"]
    assert own["ci95"] == [0.75, 0.75]  # each image has two wrong ones of eight
    apart = [replace(answer, images=(f"{i}.jpg",)) for i, answer in enumerate(answers)]
    expected = bootstrap_ci([float(bool(i % 4)) for i in range(64)], seed=3)
    assert measure(apart, None, seed=3)["metrics"]["accuracy_iou50"]["ci95"] == pytest.approx(expected, abs=1e-12)


def test_draws_count_once():
    # a: right, wrong; b: wrong, wrong. The mean is 1/4; of two answers one is right for a alone
    texts = {"a": ["[0,0,100,100]", "no"], "b": ["no", "no"]}
    answers = [rec(text, record_id=name, draw=draw) for name, own in texts.items() for draw, text in enumerate(own)]
    found = measure(answers, None, seed=0)["metrics"]
    assert found["accuracy_iou50"]["mean"] == 1 / 4
    assert found["accuracy_iou50"]["n"] == 2
    assert found["accuracy_iou50_pass@2"]["mean"] == 1 / 2
    assert not [name for name in found if "majority" in name]


def test_pass_and_majority_of_counts():
    # three draws: 3 has most votes and is right; 7 of the other record has most votes and is wrong
    texts = {"a": ["3", "4", "3"], "b": ["7", "3", "7"]}
    answers = [
        sample("counting", 3, text, record_id=name, draw=draw, image=f"{name}.jpg")
        for name, own in texts.items()
        for draw, text in enumerate(own)
    ]
    found = means(answers)
    assert found["accuracy"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert found["accuracy_pass@3"] == 1.0
    assert found["accuracy_majority@3"] == 1 / 2
    assert found["absolute_error"] == pytest.approx((1 / 3 + 8 / 3) / 2)


def test_an_answer_that_is_there_twice_is_refused():
    answer = rec("[0,0,100,100]", record_id="x")
    with pytest.raises(DataError, match="hold answer 0 to record 'x' twice"):
        measure([answer, answer], None, seed=0)


@pytest.mark.parametrize("change", [{"gold": [1, 2, 3, 4]}, {"task": "ovd"}, {"images": ("b.jpg",)}], ids=str)
def test_draws_of_different_records_are_refused(change):
    answer = rec("[0,0,100,100]", record_id="x")
    with pytest.raises(DataError, match="answers 0 and 1 to record 'x' have another task"):
        measure([answer, replace(answer, draw=1, **change)], None, seed=0)


def test_no_samples_are_refused():
    with pytest.raises(DataError, match="no samples"):
        measure([], None, seed=0)


# ---- other tasks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "gold", "right", "wrong", "metric"),
    [
        pytest.param("choice", "B", "B", "C", "accuracy", id="choice"),
        pytest.param("yes_no", True, "yes", "no", "accuracy", id="yes_no"),
        pytest.param("vqa", "red bus", "Red bus.", "bus", "accuracy", id="vqa"),
        pytest.param("math", "1/2", "0.5", "0.6", "accuracy", id="math"),
        pytest.param("gui_click", [0, 0, 10, 10], "[10, 10]", "[10, 11]", "accuracy", id="point in box"),
        pytest.param("gui_defect", "No Defect", "no defect", "text overlap", "accuracy", id="gui_defect"),
    ],
)
def test_right_and_wrong(task, gold, right, wrong, metric):
    answers = [sample(task, gold, text) for text in (right, wrong, right, "")]
    assert means(answers)[metric] == 2 / 4


def test_anls():
    # "colour" against "color": 1 − 1/6; "colour" against "red": 6 of 6 letters wrong, so 0
    answers = [sample("document", "colour", text) for text in ("color", "red")]
    assert means(answers)["anls"] == pytest.approx((5 / 6 + 0) / 2)


def test_counting_errors():
    # 4 for 4, 2 for 4, 3 for 0, and no number for 5, which is wrong but has no error
    answers = [sample("counting", gold, text) for gold, text in ((4, "4"), (4, "2"), (0, "3"), (5, "many"))]
    found = measure(answers, None, seed=0)["metrics"]
    assert found["accuracy"]["mean"] == 1 / 4
    assert found["absolute_error"] | {"ci95": 0} == {"mean": pytest.approx(5 / 3), "ci95": 0, "n": 3}
    assert found["relative_error"]["mean"] == pytest.approx((0 + 2 / 4 + 3 / 1) / 3)


# ---- the form of the result ----------------------------------------------------------------------------------------


def test_rates_and_lengths():
    answers = [
        rec("[0,0,100,100]", tokens=3),
        rec("no", tokens=10),
        rec("no, really", tokens=4, stop_reason="length"),
        rec("[1,2,3]", tokens=4),
    ]
    result = measure(answers, None, seed=0)
    assert result["parse_failures"] == {"no_box": 2, "wrong_arity": 1}
    assert result["rates"]["unreadable"]["mean"] == 3 / 4
    assert result["rates"]["unreadable_no_box"]["mean"] == 2 / 4
    assert result["rates"]["truncated"]["mean"] == 1 / 4
    assert result["lengths"] == {"mean": 21 / 4, "median": 4.0, "max": 10}
    assert result["truncated"] == 1


def test_format_rate():
    good, bad = (rec(text, template="r1") for text in ("<think>a</think><answer>[0,0,1,1]</answer>", "[0, 0, 1, 1]"))
    answers = [good, bad, replace(bad, record_id="another")]
    assert measure(answers, None, seed=0)["format_rate"] == pytest.approx(1 / 3)
    unasked = [replace(answer, parts={"accuracy": 1.0, "format": None}) for answer in (good, bad)]
    assert measure(unasked, None, seed=0)["format_rate"] is None


def test_main_metric_first_and_what_is_not_measured_is_said():
    result = measure([rec("[0,0,100,100]")], protocol(metrics=("iou", "anls", "accuracy_iou50")), seed=0)
    assert list(result["metrics"])[:2] == ["iou", "accuracy_iou50"]
    assert result["unmeasured"] == ["anls"]


def test_the_result_is_json_and_repeatable():
    found = objects(("cat", GOLD), ("dog", [1, 1, 2, 2]))
    answers = [sample("ovd", gold_objects(("cat", GOLD)), found), rec("[0,0,100,100]")]
    result = measure(answers, protocol(aspects={"a": ("data",)}), seed=1)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert measure(answers, protocol(aspects={"a": ("data",)}), seed=1) == result


def test_tasks_that_only_the_samples_name_run_no_code():
    answer = replace(rec("[0,0,100,100]"), task="os:getcwd", metrics={"own": 0.5})
    assert means([answer]) == {"own": 0.5}


def test_the_gold_answer_does_not_decide_how_an_answer_is_read():
    near = replace(rec(SEVERAL), gold=[0, 0, 100, 90])
    far = replace(near, gold=[0, 0, 400, 100])
    assert means([near], several="first")["iou"] == pytest.approx(60 / 90)
    assert means([far], several="first")["iou"] == pytest.approx(60 / 400)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"answer": "x"}, "answer holds 'x'; wanted a box", id="answer"),
        pytest.param({"answer": [1, 2, 3]}, "wanted a box", id="three numbers"),
        pytest.param({"gold": "nowhere"}, "data.jsonl:1: the gold answer", id="gold"),
    ],
)
def test_damaged_samples_are_named(change, message):
    with pytest.raises(DataError, match=message):
        measure([replace(rec("[0,0,100,100]"), **change)], None, seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"box_format": "pixels"}, "box_format is 'pixels'; wanted one of original_pixels", id="format"),
        pytest.param({"input_sizes": ()}, r"image_sizes are \[\(640, 480\)\] and input_sizes \[\]", id="sizes"),
    ],
)
def test_samples_that_cannot_be_read_once_more_are_named(change, message):
    with pytest.raises(DataError, match=message):
        measure([replace(rec(SEVERAL), **change)], protocol(several="first"), seed=0)
