import math

import pytest

from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards import REWARDS
from vlm_r1.rewards.base import RewardInput, evaluate
from vlm_r1.rewards.combine import weighted_sum
from vlm_r1.types import Record

GIVEN = RewardInput("", split_tags(""), True, None, "x", (), Record("1", "vqa", "?", (), "x", source="f.jsonl:7"))


@pytest.mark.parametrize("returned", [0.25, 1, True, -0.5])
def test_any_finite_number_is_a_reward(returned):
    assert evaluate("mine", lambda given: returned, GIVEN) == float(returned)


@pytest.mark.parametrize("returned", [math.nan, math.inf, None, "1", [1.0]])
def test_anything_else_stops_and_names_the_record(returned):
    with pytest.raises(ValueError, match=r'^f\.jsonl:7: reward "mine" returned .* wanted a finite number'):
        evaluate("mine", lambda given: returned, GIVEN)


def test_a_reward_that_raises_is_not_hidden_and_names_the_record():
    with pytest.raises(ZeroDivisionError) as caught:
        evaluate("mine", lambda given: 1 / 0, GIVEN)
    assert caught.value.__notes__ == ['f.jsonl:7: raised by reward "mine"']


@pytest.mark.parametrize(
    ("parts", "weights", "expected"),
    [
        pytest.param({"a": 0.5, "f": 1.0}, {"a": 1.0, "f": 1.0}, 1.5, id="plain_sum"),
        pytest.param({"a": 0.5, "f": 1.0}, {"a": 2.0, "f": 0.25}, 0.5 * 2 + 1 * 0.25, id="weighted"),
        pytest.param({"a": 0.5, "f": 1.0}, {"f": -1.0, "a": 0.0}, -1.0, id="zero_and_negative_weights"),
        pytest.param({}, {}, 0.0, id="no_parts"),
    ],
)
def test_weighted_sum(parts, weights, expected):
    assert weighted_sum(parts, weights) == expected


@pytest.mark.parametrize("weights", [{}, {"a": 1.0, "b": 1.0}, {"b": 1.0}])
def test_parts_without_weights_are_our_bug(weights):
    with pytest.raises(KeyError):
        weighted_sum({"a": 1.0}, weights)


def test_names_of_the_original_are_known():
    assert REWARDS["all_match"] is REWARDS["exact_match"]
    assert REWARDS["numeric"] is REWARDS["count"]
    assert "accuracy" not in REWARDS  # the routed part
