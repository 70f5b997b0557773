import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_r1.errors import DataError
from vlm_r1.parsing.normal_form import normalize_text
from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards.base import RewardInput
from vlm_r1.rewards.numbers import count_relative, exact_number, numeric
from vlm_r1.rewards.text import anls, default, edit_ratio, exact_match
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
        pytest.param(True, True, 1.0, id="verdicts"),
        pytest.param("N.Y.C", ("New York", "N.Y.C."), 1.0, id="second_of_the_accepted"),
        pytest.param("Boston", ("New York", "N.Y.C."), 0.0, id="none_of_the_accepted"),
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
        pytest.param("1,234 people", 1234, 1.0, id="thousands_and_unit"),
        pytest.param("50%", "50", 1.0, id="a_percent_sign_is_a_unit"),
        pytest.param("50%", "0.5", 0.0, id="and_no_division"),
        pytest.param("three", "3", 0.0, id="words"),
        pytest.param("3 or 4", "3", 0.0, id="two_answers"),
        pytest.param("1/2", "0.5", 0.0, id="a_ratio_is_mathematics"),
        pytest.param(None, 0, 0.0, id="nothing_parsed_is_not_zero"),
        pytest.param(True, 1, 0.0, id="yes_is_not_one"),
    ],
)
def test_exact_number(value, gold, expected):
    assert exact_number(_given(value, gold)) == expected
    assert numeric(_given(value, gold)) == expected


@pytest.mark.parametrize(
    ("value", "gold", "options", "expected"),
    [
        pytest.param(10.5, 10, {"tolerance": 0.5}, 1.0, id="on_the_edge"),
        pytest.param(10.6, 10, {"tolerance": 0.5}, 0.0, id="beyond"),
        pytest.param(9.5, 10, {"tolerance": 0.5}, 1.0, id="below"),
        pytest.param("21", "20", {"relative": 0.05}, 1.0, id="a_twentieth"),  # |21 − 20| = 1 = 0.05 · 20
        pytest.param("21.1", "20", {"relative": 0.05}, 0.0, id="more"),
        pytest.param(-21, -20, {"relative": 0.05}, 1.0, id="of_a_negative_number"),
        pytest.param(0.1, 0, {"relative": 0.05}, 0.0, id="of_zero"),
        pytest.param(0.1, 0, {"relative": 0.05, "tolerance": 0.1}, 1.0, id="the_larger_of_both"),
        pytest.param(None, 0, {"tolerance": 9.0}, 0.0, id="nothing_parsed"),
    ],
)
def test_numeric_with_tolerance(value, gold, options, expected):
    assert numeric(_given(value, gold), **options) == expected


@pytest.mark.parametrize(
    ("value", "gold", "expected"),
    [
        pytest.param(10, 10, 1.0, id="right"),
        pytest.param(8, 10, 0.8, id="two_of_ten_missed"),  # 1 − 2/10
        pytest.param(12, 10, 0.8, id="two_too_many"),
        pytest.param(20, 10, 0.0, id="twice_as_many"),
        pytest.param(10**15, 10, 0.0, id="absurd"),
        pytest.param(0, 0, 1.0, id="none"),
        pytest.param(1, 0, 0.0, id="one_of_none"),  # 1 − 1/1
        pytest.param("5", "4", 0.75, id="texts"),  # 1 − 1/4
        pytest.param(None, 0, 0.0, id="nothing_parsed"),
    ],
)
def test_count_relative(value, gold, expected):
    assert count_relative(_given(value, gold)) == pytest.approx(expected, abs=1e-12)


@given(st.integers(-(10**15), 10**15), st.integers(0, 10**6))
def test_count_relative_is_bounded_and_full_for_the_right_count_alone(value, gold):
    reward = count_relative(_given(value, gold))
    assert 0.0 <= reward <= 1.0
    assert (reward == 1.0) == (value == gold)
    assert reward <= count_relative(_given(value - (value > gold) + (value < gold), gold))  # one nearer


def slow_edits(a, b, substitution):
    """Least cost of insertions and deletions at 1 and substitutions at `substitution` each, by the recurrence."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a):
        previous, row = row, [i + 1]
        for j, right in enumerate(b):
            replace = previous[j] + (0 if left == right else substitution)
            row.append(min(previous[j + 1] + 1, row[j] + 1, replace))
    return row[-1]


def slow_edit_ratio(a, b):
    a, b = normalize_text(a), normalize_text(b)
    return 1 - slow_edits(a, b, substitution=2) / (len(a) + len(b)) if a or b else 1.0


def slow_anls(a, b, threshold=0.5):
    a, b = (" ".join(text.lower().split()) for text in (a, b))
    distance = slow_edits(a, b, substitution=1) / max(len(a), len(b)) if a or b else 0.0
    return 1 - distance if distance <= threshold else 0.0


@pytest.mark.parametrize(
    ("value", "gold", "expected"),
    [
        pytest.param("A red bus.", "a  red bus", 1.0, id="same_text"),
        pytest.param("red bus", "a red bus", 0.875, id="a_word_missing"),  # 1 − 2/(7 + 9)
        pytest.param("xyz", "abc", 0.0, id="nothing_in_common"),
        pytest.param("abcd", "abce", 0.75, id="one_of_four"),  # 1 − 2/(4 + 4)
        pytest.param("", "abc", 0.0, id="empty"),
        pytest.param("bus", ("tram", "bus"), 1.0, id="best_of_the_accepted"),
        pytest.param(12, 13, 0.5, id="numbers"),  # 1 − 2/(2 + 2)
        pytest.param(None, "none", 0.0, id="nothing_parsed"),
    ],
)
def test_edit_ratio(value, gold, expected):
    assert edit_ratio(_given(value, gold)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("value", "gold", "expected"),
    [
        pytest.param("Coca  Cola", "coca cola", 1.0, id="case_and_space"),
        pytest.param("coca cola.", "coca cola", 0.9, id="full_stop"),  # 1 − 1/10
        pytest.param("c0ca cola", "coca cola", 1 - 1 / 9, id="misread_letter"),
        pytest.param("pepsi", "coca cola", 0.0, id="another_answer"),
        pytest.param("abcd", "abxy", 0.5, id="half_wrong_counts_half"),  # 1 − 2/4, as the official scripts have it
        pytest.param("abcd", "axyz", 0.0, id="more_than_half_wrong"),  # d = 3/4
        pytest.param("ＣＯＣＡ cola", "coca cola", 1.0, id="full_width"),
        pytest.param("cafe\u0301", "caf\u00e9", 1.0, id="decomposed"),
        pytest.param("cafe", "caf\u00e9", 0.75, id="an_accent_counts"),  # 1 − 1/4
        pytest.param("abcde", "abcxy", 0.6, id="just_below_half"),  # 1 − 2/5
        pytest.param("12.5", ("13", "12,5"), 0.75, id="best_of_the_accepted"),  # 1 − 1/4
        pytest.param("", "coca cola", 0.0, id="empty"),
        pytest.param(None, "none", 0.0, id="nothing_parsed"),
    ],
)
def test_anls(value, gold, expected):
    assert anls(_given(value, gold)) == pytest.approx(expected, abs=1e-12)


def test_anls_takes_its_threshold_from_the_recipe():
    assert anls(_given("abcd", "abxy"), threshold=0.6) == 0.5
    assert anls(_given("abcde", "abcxy"), threshold=0.39) == 0.0


LETTERS = st.text(alphabet="aB é.\n", max_size=12)


@settings(deadline=None)
@given(LETTERS, st.lists(LETTERS, min_size=1, max_size=3))
def test_edit_rewards_equal_their_slow_twins_and_are_bounded(value, golds):
    ratio, similarity = edit_ratio(_given(value, tuple(golds))), anls(_given(value, tuple(golds)))
    assert ratio == pytest.approx(max(slow_edit_ratio(value, gold) for gold in golds), abs=1e-12)
    assert similarity == pytest.approx(max(slow_anls(value, gold) for gold in golds), abs=1e-12)
    assert 0.0 <= ratio <= 1.0
    assert similarity == 0.0 or 0.5 <= similarity <= 1.0


@given(st.text(max_size=40), st.text(max_size=40))
def test_comparing_texts_is_symmetric_and_a_text_equals_itself(a, b):
    for reward in (exact_match, edit_ratio, anls):
        assert reward(_given(a, b)) == pytest.approx(reward(_given(b, a)), abs=1e-12)
        assert reward(_given(a, a)) == 1.0


@pytest.mark.parametrize(
    ("value", "gold", "expected"),
    [
        pytest.param("3.0", "3", 1.0, id="number"),
        pytest.param("The answer is 25/2.", "12.5", 1.0, id="number_as_a_fraction"),
        pytest.param("13", "12.5", 0.0, id="another_number"),
        pytest.param("13 apples", "12 apples", 0.0, id="a_wrong_number_earns_nothing_by_its_unit"),
        pytest.param("12", "12 apples", 1.0, id="number_without_its_unit"),
        pytest.param("three", "3", 0.0, id="number_in_words"),
        pytest.param("$\\frac{2}{4}$", "\\frac{1}{2}", 1.0, id="formula"),
        pytest.param("1 + x^2", "x^2+1", 1.0, id="formula_without_marks"),
        pytest.param("(A)", "A", 1.0, id="option"),
        pytest.param("B", "A", 0.0, id="another_option"),
        pytest.param("B", "B. the dog", 1.0, id="option_with_its_text"),
        pytest.param("A or B", "B", 0.0, id="two_options"),
        pytest.param("red bus", "A red bus", 0.875, id="text_that_begins_with_an_article"),  # 1 − 2/(7 + 9)
        pytest.param("line 42", "Bus 42", 6 / 13, id="text_that_ends_with_a_number"),  # " 42" in common: 2 · 3/(7 + 6)
        pytest.param("cat", "A.M.", 1 / 3, id="text_that_begins_like_an_option"),  # "a" in common: 2 · 1/(3 + 3)
        pytest.param("bus", ("tram", "bus"), 1.0, id="best_of_the_accepted"),
        pytest.param(None, "none", 0.0, id="nothing_parsed"),
    ],
)
def test_default_tells_the_kind_from_the_gold_answer(value, gold, expected):
    assert default(_given(value, gold)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("function", "gold", "wanted"),
    [
        pytest.param(exact_match, (0.0, 0.0, 1.0, 1.0), "short texts", id="match_box"),
        pytest.param(anls, (), "short texts", id="anls_no_accepted_answer"),
        pytest.param(edit_ratio, None, "short texts", id="edit_ratio_nothing"),
        pytest.param(default, ["a"], "short texts", id="default_list"),
        pytest.param(exact_number, (0.0, 0.0, 1.0, 1.0), "numbers", id="number_box"),
        pytest.param(exact_number, "three", "numbers", id="number_word"),
        pytest.param(numeric, True, "numbers", id="numeric_verdict"),
        pytest.param(count_relative, "3 or 4", "numbers", id="relative_two_numbers"),
    ],
)
def test_unsuitable_gold_names_the_record(function, gold, wanted):
    with pytest.raises(DataError, match=rf"^f\.jsonl:7: .* compares {wanted}, but the gold answer of task \"vqa\" is"):
        function(_given(None, gold))
