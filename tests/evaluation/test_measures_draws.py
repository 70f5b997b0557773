"""pass@k and majority, by hand and against counting all choices."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testing_samples import sample
from vlm_r1.evaluation.measures_draws import majority, over_draws, pass_at


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=7), st.data())
def test_pass_is_the_share_of_choices_with_a_right_answer(right, data):
    k = data.draw(st.integers(1, len(right)))
    chosen = list(combinations(right, k))
    assert pass_at(k, right) == pytest.approx(sum(map(any, chosen)) / len(chosen))


@pytest.mark.parametrize(
    ("task", "gold", "texts", "winner"),
    [
        pytest.param("counting", 3, ["2", "3", "three", "3.0"], 1, id="most votes"),
        pytest.param("counting", 3, ["2", "3"], 0, id="of equally many the earlier"),
        pytest.param("counting", 3, ["many", "many", "4"], 2, id="what was not read has no vote"),
        pytest.param("counting", 3, ["many", "many"], None, id="none was read"),
        pytest.param("vqa", "a", ["b", "A red bus.", "a  RED bus"], 1, id="texts in normal form"),
        pytest.param("math", "1/2", ["0.6", "1/2", "0.5"], 0, id="formulas by their text"),
        pytest.param("yes_no", True, ["no", "yes", "Yes."], 1, id="verdicts"),
    ],
)
def test_majority(task, gold, texts, winner):
    assert majority([sample(task, gold, text) for text in texts]) == winner


def test_numbers_of_a_record():
    answers = [sample("counting", 3, text) for text in ("3", "2", "2")]
    values = [dict(answer.metrics) for answer in answers]
    assert over_draws(answers, values, 3) == {"accuracy_pass@3": 1.0, "accuracy_majority@3": 0.0}
    # of two of these three answers, one is right in 2 of 3 choices; the majority is that of the first two
    assert over_draws(answers, values, 2) == {"accuracy_pass@2": pytest.approx(2 / 3), "accuracy_majority@2": 1.0}


def test_without_a_readable_answer_the_majority_is_wrong():
    answers = [sample("document", "x", "")] * 2
    found = over_draws(answers, [dict(answer.metrics) for answer in answers], 2)
    assert found == {"accuracy_pass@2": 0.0, "accuracy_majority@2": 0.0, "anls_majority@2": 0.0}


def test_boxes_have_no_majority():
    answers = [sample("rec", [0, 0, 10, 10], "[0, 0, 10, 10]")] * 2
    assert over_draws(answers, [{"accuracy_iou50": 1.0, "iou": 1.0}] * 2, 2) == {"accuracy_iou50_pass@2": 1.0}
