"""Multiple choice, and yes or no: questions and gold answers."""

import pytest

from vlm_r1.errors import DataError
from vlm_r1.parsing.options import options_of
from vlm_r1.tasks import get_task
from vlm_r1.types import Parsed, Record

LINES = "<image>Which animal?\nA. cat\nB) red dog\n(C) C3PO"
COLUMN = ("cat", "red dog", "C3PO")


def _record(answer=None, problem="<image>Which animal?", options=None, task="choice"):
    columns = {} if options is None else {"options": options}
    return Record("1", task, problem, ("a.png",), answer, columns=columns, source="f.jsonl:7")


@pytest.mark.parametrize(
    ("problem", "column", "options"),
    [
        pytest.param("Which?", ["cat", "dog"], {"A": "cat", "B": "dog"}, id="column"),
        pytest.param("Which?", ["A. cat", "(B) dog"], {"A": "cat", "B": "dog"}, id="column_with_letters"),
        pytest.param("Which?", ["B. Anthony", "D. Dean"], {"A": "B. Anthony", "B": "D. Dean"}, id="initials_stay"),
        pytest.param("Which?", [1, 2.5], {"A": "1", "B": "2.5"}, id="column_of_numbers"),
        pytest.param("Which?", {"a": "cat", "B": "dog"}, {"A": "cat", "B": "dog"}, id="named"),
        pytest.param("Which?", ["x"] * 30, dict.fromkeys("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "x"), id="letters_run_out"),
        pytest.param(LINES, None, dict(zip("ABC", COLUMN, strict=True)), id="lines"),
        pytest.param(LINES, ["x", "y"], {"A": "x", "B": "y"}, id="column_before_lines"),
        pytest.param("Which?\n A: cat \n B: dog", None, {"A": "cat", "B": "dog"}, id="indented_lines"),
        pytest.param("Why?\nB. first\nA. cat\nC. c\nB. dog", None, {"A": "cat", "B": "dog"}, id="in_order_from_a"),
        pytest.param("A. What is it?", None, {}, id="one_line_is_no_choice"),
        pytest.param("Which, A or B?", None, {}, id="none"),
    ],
)
def test_options(problem, column, options):
    assert options_of(_record(problem=problem, options=column)) == options


@pytest.mark.parametrize(
    ("problem", "column", "question"),
    [
        pytest.param(LINES, None, LINES, id="options_in_the_problem"),
        pytest.param(LINES, ["cat", "dog", "cow"], LINES, id="options_in_both"),
        pytest.param("Which, A or B?", None, "Which, A or B?", id="no_options"),
        pytest.param(
            "<image>Which animal? ",
            list(COLUMN),
            "<image>Which animal?\nA. cat\nB. red dog\nC. C3PO\nAnswer with the letter of the right option.",
            id="options_in_the_column",
        ),
    ],
)
def test_choice_question(problem, column, question):
    assert get_task("choice").question(_record(problem=problem, options=column)) == question


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        pytest.param("B", "B", id="letter"),
        pytest.param(" (b). ", "B", id="letter_in_brackets"),
        pytest.param("B. red dog", "B", id="letter_and_text"),
        pytest.param("Red  Dog.", "B", id="text"),
        pytest.param("C3PO", "C", id="text_with_a_letter"),
        pytest.param("Option A", "A", id="in_words"),
    ],
)
@pytest.mark.parametrize("where", ["lines", "column"])
def test_choice_gold(where, answer, letter):
    record = _record(answer, LINES) if where == "lines" else _record(answer, options=list(COLUMN))
    assert get_task("choice").gold(record) == letter


def test_a_text_is_compared_before_letters_are_looked_for():
    options = ["vitamin B", "vitamin C", "I", "A"]
    golds = {text: get_task("choice").gold(_record(text, options=options)) for text in options}
    assert golds == {"vitamin B": "A", "vitamin C": "B", "I": "C", "A": "A"}  # but an option's letter is its letter


@pytest.mark.parametrize(
    ("problem", "answer", "letter"),
    [
        pytest.param("Which?\n1. cat\n2. dog", "2", "2", id="number"),
        pytest.param("Which?\n1. cat\n2. dog", "dog", "2", id="text"),
        pytest.param("Which? (1) 3 (2) 4", 2, "2", id="number_in_a_line"),
        pytest.param("Which is true, A or B?\n1. cat\n2. dog", "B", "B", id="numbers_of_statements"),
    ],
)
def test_options_of_a_problem_may_be_numbered_where_the_gold_answer_is(problem, answer, letter):
    record = _record(answer, problem)
    assert get_task("choice").gold(record) == letter
    assert get_task("choice").parse(f"The answer is {letter}.", record) == Parsed(letter)


def test_an_answer_is_read_with_the_options_of_its_record():
    record = _record("B", options=["Vitamin A", "Vitamin C"])
    assert get_task("choice").parse("Vitamin C", record) == Parsed("B")
    assert get_task("choice").parse("Vitamin C", _record("B", "Vitamin A, B or C?")) == Parsed("C")


def test_a_number_is_the_text_of_an_option_and_no_index():
    assert get_task("choice").gold(_record(2, options=[1, 2, 3])) == "B"


@pytest.mark.parametrize(
    ("answer", "column", "reason"),
    [
        pytest.param("E", list(COLUMN), "not_among_options", id="letter_without_option"),
        pytest.param("cow", list(COLUMN), "no_choice", id="text_without_option"),
        pytest.param("cat", ["cat", "Cat."], "no_choice", id="text_of_two_options"),
        pytest.param("cat", None, "no_choice", id="text_without_options"),
        pytest.param("A or B", None, "several_choices", id="two_letters"),
        pytest.param(["A"], None, "not_a_text", id="list"),
        pytest.param(None, None, "not_a_text", id="none"),
    ],
)
def test_unusable_choice(answer, column, reason):
    with pytest.raises(DataError, match=rf"^f\.jsonl:7: the gold answer .* is no option \({reason}\); wanted a letter"):
        get_task("choice").gold(_record(answer, options=column))


@pytest.mark.parametrize(
    ("problem", "question"),
    [
        pytest.param("<image>Is it a dog?", "<image>Is it a dog? Answer yes or no.", id="bare"),
        pytest.param("Is it? <image>\n", "Is it? <image> Answer yes or no.", id="image_last"),
        pytest.param("<image>Is it? Say Yes or No", "<image>Is it? Say Yes or No", id="it_says_so"),
        pytest.param("<image>Is it known?", "<image>Is it known? Answer yes or no.", id="no_within_a_word"),
    ],
)
def test_yes_no_question(problem, question):
    assert get_task("yes_no").question(_record(problem=problem, task="yes_no")) == question


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [(True, True), (False, False), ("Yes", True), ("no.", False), ("Yes, it is.", True)],
)
def test_yes_no_gold(answer, verdict):
    assert get_task("yes_no").gold(_record(answer, task="yes_no")) is verdict


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param("true", "no_yes_or_no", id="word_of_another_language"),
        pytest.param(1, "no_yes_or_no", id="number"),
        pytest.param("yes and no", "yes_and_no", id="both"),
        pytest.param([True], "not_a_text", id="list"),
    ],
)
def test_unusable_verdict(answer, reason):
    with pytest.raises(DataError, match=rf"^f\.jsonl:7: the gold answer .* is no verdict \({reason}\); wanted true"):
        get_task("yes_no").gold(_record(answer, task="yes_no"))
