"""Answers are put in order, and each gets a word for what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from testing_evaluations import answered
from vlm_r1.evaluation.runner import sample_rows
from vlm_r1.evaluation.samples import Sample, as_sample
from vlm_r1.report.answer_cards import RowWriter, caption, rows_within, size_px, value_text
from vlm_r1.report.answers import (
    MAX_GROUPS,
    OTHER,
    RIGHT,
    Judged,
    at_quantiles,
    by_quality,
    by_verdict,
    judged,
    quality,
    verdict,
)
from vlm_r1.types import AnswerValue, Record, StopReason

DOG = {"bbox_2d": [0, 0, 20, 20], "label": "dog"}
CAT = {"bbox_2d": [30, 10, 50, 40], "label": "cat"}


def sample(task: str, gold: AnswerValue, text: str, stop: StopReason = StopReason.STOP) -> Sample:
    """A judged answer about one picture of 64 by 48 pixels that does not exist."""
    tagged = f"<think>t</think><answer>{text}</answer>" if text else "no tags"
    record = Record("7", task, "<image>which (A) x (B) y?", ("/nowhere.png",), gold, source="val.jsonl:7")
    (row,) = sample_rows(answered(record, tagged, stop))
    return as_sample(row, "samples:1")


def boxes(*items: dict) -> str:
    return "```json\n" + str(list(items)).replace("'", '"') + "\n```"


VERDICTS = {
    # IoU of [0, 0, 20, 20] and [0, 0, 20, 19] is 19 / 20
    "a box that fits": ("rec", [0, 0, 20, 20], "[0, 0, 20, 19]", RIGHT, "IoU 0.95"),
    # 10 · 20 / (400 + 400 - 200) = 1 / 3
    "a box half beside": ("rec", [0, 0, 20, 20], "[10, 0, 30, 20]", "too little overlap", "IoU 0.33"),
    "a box elsewhere": ("rec", [0, 0, 20, 20], "[30, 30, 40, 40]", "no overlap", "IoU 0.00"),
    "no box": ("rec", [0, 0, 20, 20], "", "not readable: no_answer_tag", "IoU 0.00"),
    "a kind is missing": ("ovd", [DOG, CAT], boxes(DOG), "misses a kind of object", "AP 0.50"),
    "a kind is invented": ("ovd", [DOG], boxes({**CAT, "label": "cow"}), "misses a kind of object", "AP 0.00"),
    "one of two dogs": ("ovd", [DOG, {**CAT, "label": "dog"}], boxes(DOG), "too few boxes", "AP 0.50"),
    "a dog elsewhere": ("ovd", [DOG], boxes({**CAT, "label": "dog"}), "boxes do not fit", "AP 0.00"),
    "nothing, and rightly": ("ovd", "None", "None", RIGHT, "AP 1.00"),
    "nothing, but there is": ("ovd", [DOG], "None", "says that nothing is there", "AP 0.00"),
    "something, but there is not": ("multi_rec", "None", "[[0, 0, 9, 9]]", "finds what is not there", "F1 0.00"),
    "three boxes for one": (
        "multi_rec",
        [[0, 0, 20, 20]],
        "[[30, 0, 40, 9], [30, 10, 40, 19], [30, 20, 40, 29]]",
        "too many boxes",
        "F1 0.00",
    ),
    "a click inside": ("gui_click", [10, 10, 30, 20], '{"point_2d": [20, 15]}', RIGHT, "right"),
    "a click outside": ("gui_click", [10, 10, 30, 20], '{"point_2d": [40, 40]}', "beside the target", "wrong"),
    "a click on a polygon": (
        "gui_click",
        [[0, 0], [30, 0], [0, 30]],
        '{"point_2d": [29, 29]}',
        "beside the target",
        "wrong",
    ),
    "a wrong letter": ("choice", "A", "B", "wrong answer", "wrong"),
    "a right number": ("counting", 3, "3", RIGHT, "right"),
}


@pytest.mark.parametrize(("task", "gold", "text", "found", "shown"), VERDICTS.values(), ids=VERDICTS)
def test_a_verdict_says_what_is_wrong(task: str, gold: AnswerValue, text: str, found: str, shown: str):
    one = sample(task, gold, text)
    main = next(iter(one.metrics))
    assert (verdict(one, main), caption(one, main)) == (found, shown)


def test_an_answer_that_was_cut_off_is_a_verdict_of_its_own():
    one = sample("rec", [0, 0, 20, 20], "", StopReason.LENGTH)
    assert verdict(one, "accuracy_iou50") == "not readable: no_answer_tag, cut off"


def test_answers_with_the_same_main_metric_are_ordered_by_the_others():
    texts = ["[30, 30, 40, 40]", "[0, 0, 20, 20]", "[0, 0, 20, 15]", "[10, 0, 30, 20]"]
    found = judged((sample("rec", [0, 0, 20, 20], text) for text in texts), "accuracy_iou50")
    assert by_quality(found) == [1, 2, 3, 0]
    assert found[2].quality == (1.0, pytest.approx((1 + 0.75) / 2))


def test_numbers_that_are_none_and_missing_metrics_are_zero():
    one = sample("counting", 3, "4")
    assert quality(one, "not_there") == (0.0, 0.0)
    assert quality(one.__class__(**{**vars(one), "metrics": {"a": float("nan"), "b": 1.0}}), "a") == (0.0, 0.5)


def test_the_commonest_failure_comes_first_and_the_worst_in_it_and_what_is_right_last():
    found = [Judged((1.0, 1.0), RIGHT), Judged((0.0, 0.3), "a"), Judged((0.0, 0.1), "a"), Judged((0.0, 0.0), "b")]
    assert by_verdict(found) == {"a": [2, 1], "b": [3], RIGHT: [0]}
    assert list(by_verdict(found)) == ["a", "b", RIGHT]


def test_many_reasons_are_one_group_beyond_the_commonest():
    found = [Judged((0.0, 0.0), f"reason {number}") for number in range(MAX_GROUPS + 3)]
    groups = by_verdict(found)
    assert (len(groups), len(groups[OTHER])) == (MAX_GROUPS + 1, 3)


def test_places_at_quantiles_of_few_answers_come_once():
    assert at_quantiles([]) == {}
    assert at_quantiles([4]) == {"best": 4}
    assert list(at_quantiles(range(7)).values()) == [0, 1, 2, 3, 4, 6]  # 5 % of six steps is the worst itself


def test_rows_stop_where_their_bytes_are_spent_and_pictures_cost_nothing():
    rows = [{"q": "x" * 90, "u": "y" * 10_000} for _ in range(10)]
    assert len(rows_within(rows, 350)) == 3  # each has 90 letters and about 20 for keys and signs
    assert rows_within(rows, 0) == []


def test_a_row_has_the_boxes_of_one_picture_and_no_number_that_json_lacks():
    record = Record("7", "ovd", "<image><image>x", ("/a.png", "/b.png"), [{**DOG, "image": 1}], source="v:7")
    base = sample("ovd", [DOG], boxes(DOG))
    gold: AnswerValue = [{**DOG, "image": 1}, {**CAT, "image": 0}]
    answer: AnswerValue = [{"bbox_2d": [-1e308, 0, 1e308, 5], "label": "x", "image": 1}, {**CAT, "image": 1}]
    changed = {"images": record.images, "image_sizes": ((64, 48), (30, 30)), "gold": gold, "answer": answer}
    writer = RowWriter("map", {}, {"g": 0}, {}, 10)
    row = writer.row("g", {"": Sample(**{**vars(base), **changed})}, None)
    assert (row["w"], row["b"], row["m"]) == ([30, 30], [[0, 0, 20, 20, "dog"]], [2, 2])
    assert row["a"][0]["b"] == [[30, 10, 20, 30, "cat"]]
    assert (row["l"], writer.choices()) == ([0, 1], ["dog", "cat"])


def test_more_labels_than_one_can_choose_among_are_no_choice():
    writer = RowWriter("accuracy", {}, {"g": 0}, {}, 2)
    for gold in (1, 2, 3):
        assert set(writer.row("g", {"": sample("counting", gold, "1")}, None)["l"]) <= {0, 1}
    assert writer.choices() == []


@pytest.mark.parametrize(
    ("size", "bounded"), [((0, 5), (1, 5)), ((64, 48), (64, 48)), ((10**9, 3), (1_000_000, 3))], ids=str
)
def test_the_size_of_a_picture_is_bounded(size: tuple[int, int], bounded: tuple[int, int]):
    one = Sample(**{**vars(sample("rec", [0, 0, 2, 2], "")), "image_sizes": (size,)})
    assert size_px(one, 0) == bounded
    assert size_px(one, 5) == (100, 100)


def test_labelled_boxes_as_text():
    assert value_text([DOG, CAT]) == "dog [0, 0, 20, 20]; cat [30, 10, 50, 40]"
    assert value_text([[1, 2, 3, 4.04]]) == "[[1, 2, 3, 4.0]]"


LINES = {
    "a number without end": ('"tokens": 23', '"tokens": 1e999', '"tokens" is inf'),
    "a reason that is no text": ('"reason": null', '"reason": [1]', '"reason" is \\[1\\]'),
    "a draw that is no number": ('"tokens": 23', '"tokens": 23, "draw": "x"', '"draw" is x'),
    "columns that are a list": ('"tokens": 23', '"tokens": 23, "columns": [1]', '"columns" is \\[1\\]'),
    "a size below zero": ("[[64, 48]]", "[[-64, 48]]", "_sizes"),
    "a number of 400 digits": ('"gold": [0, 0, 20, 20]', f'"gold": {"9" * 400}', "300 digits"),
    "700 levels": ('"gold": [0, 0, 20, 20]', f'"gold": {"[" * 700}{"]" * 700}', "100 levels"),
}


@pytest.mark.parametrize(("old", "new", "message"), LINES.values(), ids=LINES)
def test_a_line_that_no_evaluation_writes_is_an_error_with_its_number(tmp_path: Path, old: str, new: str, message: str):
    import json

    from vlm_r1.errors import DataError
    from vlm_r1.evaluation.samples import read_samples

    one = sample("rec", [0, 0, 20, 20], "[0, 0, 20, 19]")
    line = json.dumps({**one.row, "tokens": 23})
    assert old in line
    (tmp_path / "a.samples.jsonl").write_text(f"{line}\n{line.replace(old, new)}\n")
    with pytest.raises(DataError, match=rf"a\.samples\.jsonl:2: .*{message}"):
        list(read_samples(tmp_path / "a.samples.jsonl"))
