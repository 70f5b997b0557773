import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_r1.errors import ConfigError
from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards.base import RewardInput
from vlm_r1.rewards.length import cosine_length, overlong
from vlm_r1.types import Record, Thinking

RECORD = Record("1", "vqa", "?", (), "x", source="f.jsonl:7")


def _given(n_tokens, accuracy=None):
    parts = {} if accuracy is None else {"accuracy": accuracy}
    return RewardInput("", split_tags(""), Thinking.REQUIRED, "x", "x", (), RECORD, n_tokens, parts)


@pytest.mark.parametrize(
    ("n_tokens", "accuracy", "expected"),
    [
        pytest.param(0, 1.0, 1.0, id="correct_and_short"),
        pytest.param(256, 1.0, 0.5 + 0.5 * (1 + math.sqrt(0.5)) / 2, id="correct_at_a_quarter"),  # cos 45° = √½
        pytest.param(512, 1.0, 0.75, id="correct_at_half"),  # cos 90° = 0
        pytest.param(1024, 1.0, 0.5, id="correct_and_long"),
        pytest.param(2048, 1.0, 0.5, id="the_curve_does_not_rise_again"),
        pytest.param(0, 0.0, 0.0, id="wrong_and_short"),
        pytest.param(512, 0.0, -0.25, id="wrong_at_half"),
        pytest.param(1024, 0.0, -0.5, id="wrong_and_long"),
        pytest.param(512, 0.7, 0.75, id="correct_from_0.7"),
        pytest.param(512, 0.69, -0.25, id="wrong_below_0.7"),
    ],
)
def test_cosine_length(n_tokens, accuracy, expected):
    assert cosine_length(_given(n_tokens, accuracy)) == pytest.approx(expected, abs=1e-12)


def test_cosine_length_takes_its_curves_from_the_recipe():
    options = {"max_tokens": 100, "correct": (2.0, 1.0), "wrong": (-10.0, 0.0), "correct_from": 0.5}
    assert cosine_length(_given(50, 0.5), **options) == pytest.approx(1.5)
    assert cosine_length(_given(50, 0.4), **options) == pytest.approx(-5.0)
    assert cosine_length(_given(100, 0.4), **options) == pytest.approx(0.0)


@given(st.integers(0, 5000), st.floats(0, 1))
def test_shorter_is_never_worse_and_correct_always_better(n_tokens, accuracy):
    reward = cosine_length(_given(n_tokens, accuracy))
    assert -0.5 <= reward <= 1.0
    assert reward >= cosine_length(_given(n_tokens + 1, accuracy))
    assert (reward >= 0.5) == (accuracy >= 0.7)


@pytest.mark.parametrize(
    ("n_tokens", "expected"),
    [
        pytest.param(0, 0.0, id="empty"),
        pytest.param(384, 0.0, id="buffer_begins"),  # 512 − 128
        pytest.param(385, -1 / 128, id="first_of_the_buffer"),
        pytest.param(448, -0.5, id="half_of_the_buffer"),
        pytest.param(512, -1.0, id="limit"),
        pytest.param(9999, -1.0, id="beyond"),
    ],
)
def test_overlong(n_tokens, expected):
    reward = overlong(_given(n_tokens))
    assert reward == expected
    assert str(reward) != "-0.0"


def test_overlong_of_dapo():
    """Its experiment: no punishment up to 16,384 tokens, the full one from 20,480."""
    options = {"max_tokens": 20_480, "buffer": 4_096}
    assert [overlong(_given(n), **options) for n in (16_384, 17_408, 20_480)] == [0.0, -0.25, -1.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda: cosine_length(_given(None, 1.0)), r"^f\.jsonl:7: .*nobody counted", id="cosine_uncounted"),
        pytest.param(lambda: overlong(_given(None)), r"^f\.jsonl:7: .*nobody counted", id="overlong_uncounted"),
        pytest.param(lambda: cosine_length(_given(5)), r'^f\.jsonl:7: .*no component "accuracy"', id="no_accuracy"),
        pytest.param(lambda: cosine_length(_given(5, 1.0), max_tokens=0), "max_tokens is 0", id="no_length"),
        pytest.param(lambda: overlong(_given(5), buffer=0), "buffer is 0", id="no_buffer"),
        pytest.param(lambda: overlong(_given(5), buffer=600), "0 < buffer ≤ max_tokens", id="buffer_over_the_limit"),
    ],
)
def test_what_is_missing_is_said(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
