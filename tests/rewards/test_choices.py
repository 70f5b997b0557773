import pytest

from vlm_r1.errors import DataError
from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards.base import RewardInput
from vlm_r1.rewards.choices import choice, yes_no
from vlm_r1.types import Record, Thinking

RECORD = Record("1", "vqa", "?", (), "x", source="f.jsonl:7")


def _given(value, gold):
    return RewardInput("", split_tags(""), Thinking.REQUIRED, value, gold, (), RECORD)


@pytest.mark.parametrize(
    ("value", "gold", "expected"),
    [
        pytest.param("B", "B", 1.0, id="letters"),
        pytest.param("(b)", "B", 1.0, id="small_in_brackets"),
        pytest.param("The answer is B.", "B. the dog", 1.0, id="texts_around_both"),
        pytest.param("A", "B", 0.0, id="another_letter"),
        pytest.param("A or B?", "B. the dog", 0.0, id="two_answers"),
        pytest.param("A, B, C, D", "B", 0.0, id="all_of_them"),
        pytest.param("the dog", "B. the dog", 0.0, id="text_without_its_letter"),
        pytest.param("Big", "B", 0.0, id="letter_within_a_word"),
        pytest.param(None, "B", 0.0, id="nothing_parsed"),
    ],
)
def test_choice(value, gold, expected):
    assert choice(_given(value, gold)) == expected


@pytest.mark.parametrize(
    ("value", "gold", "expected"),
    [
        pytest.param(True, True, 1.0, id="verdicts"),
        pytest.param(False, True, 0.0, id="another_verdict"),
        pytest.param("Yes, it is.", "yes", 1.0, id="texts"),
        pytest.param("NO!", False, 1.0, id="text_and_verdict"),
        pytest.param("none", "No", 0.0, id="no_within_a_word"),
        pytest.param("I know", "no", 0.0, id="no_within_another_word"),
        pytest.param("maybe", "no", 0.0, id="neither"),
        pytest.param("yes and no", "no", 0.0, id="both"),
        pytest.param("not yes", "yes", 0.0, id="negated"),
        pytest.param(None, False, 0.0, id="nothing_parsed_is_not_no"),
    ],
)
def test_yes_no(value, gold, expected):
    assert yes_no(_given(value, gold)) == expected


@pytest.mark.parametrize("value", ["A", "yes", "", None])
@pytest.mark.parametrize(
    ("function", "gold", "wanted"),
    [
        pytest.param(choice, "the dog", "option letters", id="choice_text"),
        pytest.param(choice, "A or B", "option letters", id="choice_of_two"),
        pytest.param(choice, 3, "option letters", id="choice_number"),
        pytest.param(yes_no, "maybe", "yes and no", id="yes_no_neither"),
        pytest.param(yes_no, "", "yes and no", id="yes_no_empty"),
        pytest.param(yes_no, 1, "yes and no", id="yes_no_number"),
    ],
)
def test_unsuitable_gold_names_the_record_whatever_the_answer(function, gold, wanted, value):
    with pytest.raises(DataError, match=rf"^f\.jsonl:7: .* compares {wanted}, but the gold answer of task"):
        function(_given(value, gold))
