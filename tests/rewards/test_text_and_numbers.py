import pytest

from vlm_r1.errors import DataError
from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards.base import RewardInput
from vlm_r1.rewards.numbers import exact_number
from vlm_r1.rewards.text import exact_match
from vlm_r1.types import Record, Thinking

RECORD = Record(id="1", task="vqa", problem="?", images=(), answer="x", source="f.jsonl:7")


def _given(value, gold):
    return RewardInput("", split_tags(""), Thinking.REQUIRED, value, gold, (), RECORD)


@pytest.mark.parametrize(
    ("value", "gold", "expected"),
    [
        pytest.param("No Defect", "No Defect", 1.0, id="equal"),
        pytest.param("no  defect.", "No Defect", 1.0, id="case_space_and_full_stop"),
        pytest.param("Defect", "No Defect", 0.0, id="part_of_it"),
        pytest.param("know", "no", 0.0, id="gold_within_a_word"),
        pytest.param(3, 3, 1.0, id="numbers"),
        pytest.param(None, "none", 0.0, id="nothing_parsed"),
    ],
)
def test_exact_match(value, gold, expected):
    assert exact_match(_given(value, gold)) == expected


@pytest.mark.parametrize(
    ("value", "gold", "expected"),
    [
        pytest.param(3, 3, 1.0, id="integers"),
        pytest.param(3, 4, 0.0, id="off_by_one"),
        pytest.param("3.0", "3", 1.0, id="texts"),
        pytest.param(".5", "0.5", 1.0, id="fractions"),
        pytest.param("three", "3", 0.0, id="words"),
        pytest.param(None, 0, 0.0, id="nothing_parsed_is_not_zero"),
    ],
)
def test_exact_number(value, gold, expected):
    assert exact_number(_given(value, gold)) == expected


@pytest.mark.parametrize(
    ("function", "gold", "wanted"),
    [
        pytest.param(exact_match, (0.0, 0.0, 1.0, 1.0), "short texts", id="match_box"),
        pytest.param(exact_number, (0.0, 0.0, 1.0, 1.0), "numbers", id="number_box"),
        pytest.param(exact_number, "three", "numbers", id="number_word"),
    ],
)
def test_unsuitable_gold_names_the_record(function, gold, wanted):
    with pytest.raises(DataError, match=rf"^f\.jsonl:7: .* compares {wanted}, but the gold answer of task \"vqa\" is"):
        function(_given(None, gold))
