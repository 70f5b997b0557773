import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_r1.parsing.choices import normalize_text, parse_text
from vlm_r1.parsing.limits import MAX_ANSWER_CHARS
from vlm_r1.types import Parsed, ParseFailure


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("No Defect", "no defect", id="case"),
        pytest.param(" no \n  defect ", "no defect", id="white_space"),
        pytest.param("No Defect.", "no defect", id="full_stop"),
        pytest.param("STRASSE", normalize_text("Straße"), id="case_folding"),
        pytest.param(".5", ".5", id="leading_point_stays"),
        pytest.param("no!", "no!", id="other_punctuation_stays"),
        pytest.param("...", "", id="nothing_left"),
    ],
)
def test_normalize_text(text, expected):
    assert normalize_text(text) == expected


@given(st.text())
def test_normalizing_twice_changes_nothing(text):
    once = normalize_text(text)
    assert normalize_text(once) == once


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(" B ", Parsed("B"), id="stripped"),
        pytest.param(" \n", ParseFailure("empty_answer"), id="blank"),
        pytest.param("x" * (MAX_ANSWER_CHARS + 1), ParseFailure("too_long"), id="too_long"),
    ],
)
def test_parse_text(text, expected):
    assert parse_text(text) == expected
