"""Choices read with their options."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_r1.parsing.choices import options_in_problem
from vlm_r1.parsing.limits import MAX_ANSWER_CHARS
from vlm_r1.parsing.options import read_choice
from vlm_r1.types import Parsed, ParseFailure


def lettered(*texts):
    return dict(zip("ABCDEFGHIJ", texts, strict=False))


NAMES = lettered("Vitamin A", "Vitamin C", "Point D", "A cat")
NUMBERS = lettered("3", "4", "3.5", "-4")
ANIMALS = lettered("dog", "cat", "cow", "red dog")
LETTERS = lettered("E", "F", "A", "G")
ROMAN = lettered("I", "II", "III", "I and II")
CHINESE = lettered("狗", "猫")
ANGLES = lettered("45°", "$60^\\circ$", "90^{\\circ}")
NINE = lettered(*"stuvwxyz", "dog")
NUMBERED = {"1": "cat", "2": "dog"}


@pytest.mark.parametrize(
    ("options", "text", "letter"),
    [
        pytest.param(NAMES, "Vitamin C", "B", id="text_with_a_capital"),
        pytest.param(NAMES, "vitamin  c.", "B", id="text_in_another_case"),
        pytest.param(NAMES, "B. Vitamin C", "B", id="letter_and_text"),
        pytest.param(NAMES, "(B) Vitamin C", "B", id="letter_in_brackets_and_text"),
        pytest.param(NAMES, "Vitamin C (B)", "B", id="text_and_letter"),
        pytest.param(NAMES, "The answer is (B) Vitamin C.", "B", id="both_in_a_sentence"),
        pytest.param(NAMES, "It is Vitamin C", "B", id="text_in_a_sentence"),
        pytest.param(NAMES, "**B. Vitamin C**", "B", id="bold"),
        pytest.param(NAMES, "\\boxed{\\text{Vitamin C}}", "B", id="boxed_text"),
        pytest.param(NAMES, "Ｂ．Ｖｉｔａｍｉｎ　Ｃ", "B", id="full_width"),
        pytest.param(NAMES, "“Vitamin C”", "B", id="quoted"),
        pytest.param(NAMES, "Point D", "C", id="text_that_ends_in_another_letter"),
        pytest.param(NAMES, "A cat", "D", id="text_that_begins_with_a_letter"),
        pytest.param(NAMES, "the cat", "D", id="another_article"),
        pytest.param(NAMES, "A: Vitamin A", "A", id="letter_twice"),
        pytest.param(NAMES, "Option D: A cat", "D", id="named"),
        pytest.param(NUMBERS, "4", "B", id="number"),
        pytest.param(NUMBERS, "3.5", "C", id="longer_number"),
        pytest.param(NUMBERS, "−4", "D", id="negative_number"),
        pytest.param(NUMBERS, "The answer is $4$.", "B", id="number_in_a_sentence"),
        pytest.param(NUMBERS, "D. -4", "D", id="letter_and_negative_number"),
        pytest.param(NUMBERS, "A = 3", "A", id="equals"),
        pytest.param(ANIMALS, "The red dog", "D", id="option_that_contains_another"),
        pytest.param(ANIMALS, "A dog", "A", id="letter_or_article_before_its_text"),
        pytest.param(ANIMALS, "A cat", "B", id="article_before_the_text_of_another"),
        pytest.param(ANIMALS, "The answer is A cat", "B", id="article_after_answer"),
        pytest.param(ANIMALS, "The answer is A zebra", "A", id="letter_after_answer"),
        pytest.param(ANIMALS, "A - dog", "A", id="dash"),
        pytest.param(ANIMALS, 'A "dog"', "A", id="quotes"),
        pytest.param(ANIMALS, "B, because a dog is not a cat", "B", id="letter_with_a_reason"),
        pytest.param(LETTERS, "A", "A", id="a_letter_before_an_option_that_is_a_letter"),
        pytest.param(LETTERS, "F", "B", id="option_that_is_a_letter"),
        pytest.param(LETTERS, "C. A", "C", id="letter_and_letter"),
        pytest.param(LETTERS, "The answer is F", "B", id="option_that_is_a_letter_in_a_sentence"),
        pytest.param(ROMAN, "II", "B", id="roman"),
        pytest.param(ROMAN, "I", "A", id="roman_one"),
        pytest.param(ROMAN, "I and II", "D", id="roman_both"),
        pytest.param(CHINESE, "答案是狗", "A", id="chinese"),
        pytest.param(CHINESE, "A、狗", "A", id="chinese_letter_and_text"),
        pytest.param(CHINESE, "选B", "B", id="chinese_letter"),
        pytest.param(ANGLES, "60°", "B", id="formula_typed"),
        pytest.param(ANGLES, "A $45^\\circ$", "A", id="letter_and_formula"),
        pytest.param(NINE, "I dog", "I", id="ninth"),
        pytest.param(NINE, "Answer: I dog", "I", id="ninth_after_answer"),
        pytest.param(NUMBERED, "2", "2", id="number_of_an_option"),
        pytest.param(NUMBERED, "2. dog", "2", id="number_and_text"),
        pytest.param({}, "B. Vitamin C", None, id="not_known"),
    ],
)
def test_reads_a_choice_with_its_options(options, text, letter):
    assert read_choice(text, options) == (Parsed(letter) if letter else ParseFailure("several_choices"))


@pytest.mark.parametrize(
    ("options", "text", "reason"),
    [
        pytest.param(NAMES, "C. Vitamin C", "several_choices", id="letter_and_the_text_of_another"),
        pytest.param(NAMES, "C.Vitamin C", "several_choices", id="without_a_space"),
        pytest.param(NAMES, "Vitamin C (C)", "several_choices", id="text_and_another_letter"),
        pytest.param(NAMES, "Vitamin A or Vitamin C", "several_choices", id="two_texts"),
        pytest.param(NAMES, "B and C", "several_choices", id="two_letters"),
        pytest.param(NAMES, "It is not Vitamin C", "no_choice", id="negated"),
        pytest.param(NAMES, "E", "not_among_options", id="letter_of_no_option"),
        pytest.param(lettered("Vitamin C tablets", "milk"), "Vitamin C", "no_choice", id="part_of_an_option"),
        pytest.param(NUMBERS, "A. 4", "several_choices", id="letter_and_another_number"),
        pytest.param(NUMBERS, "3 or 4", "several_choices", id="two_numbers"),
        pytest.param(NUMBERS, "34", "no_choice", id="another_number"),
        pytest.param(NUMBERS, "3/4", "no_choice", id="ratio"),
        pytest.param(lettered("5", "6"), "-5", "no_choice", id="another_sign"),
        pytest.param(ANIMALS, "A dog is on the left", "no_choice", id="article_of_a_sentence"),
        pytest.param(ANIMALS, "A - cat", "several_choices", id="dash_and_the_text_of_another"),
        pytest.param(ANIMALS, "hot dog", "no_choice", id="within_a_longer_name"),
        pytest.param(ANIMALS, "dog and cat", "several_choices", id="all_that_there_is"),
        pytest.param(CHINESE, "热狗", "no_choice", id="within_a_longer_chinese_name"),
        pytest.param(lettered("cat", "Cat."), "cat", "no_choice", id="text_of_two_options"),
        pytest.param(ANIMALS, "B" + " " * MAX_ANSWER_CHARS, "too_long", id="too_long"),
    ],
)
def test_is_no_choice_with_its_options(options, text, reason):
    assert read_choice(text, options) == ParseFailure(reason)


FORMS = ["{0}", "({0})", "{0}. {1}", "{0}) {1}", "{0} - {1}", "{0} ({1})", "{0} {1}", "{0} | {1}", "Answer: {0} {1}"]


@pytest.mark.parametrize("options", [NAMES, NUMBERS, ANIMALS, ROMAN, CHINESE, ANGLES, NINE], ids=lambda o: o["A"])
@pytest.mark.parametrize("form", [*FORMS, "{1}", "{1} ({0})", "The answer is {0}. {1}"])
def test_every_option_in_every_form(options, form):
    for letter, text in options.items():
        assert read_choice(form.format(letter, text), options) == Parsed(letter), (letter, text)


@pytest.mark.parametrize(
    ("problem", "options"),
    [
        pytest.param("Which? A. cat B. dog C. cow", lettered("cat", "dog", "cow"), id="in_a_line"),
        pytest.param("Options: (A) 3 (B) 4", lettered("3", "4"), id="in_brackets"),
        pytest.param("题目：A．猫　B．狗", lettered("猫", "狗"), id="full_width"),
        pytest.param("Which?\nA、猫\nB、狗", lettered("猫", "狗"), id="ideographic_comma"),
        pytest.param("A. What is it?", {}, id="one"),
        pytest.param("Is A. Smith here?", {}, id="initial"),
        pytest.param("B. cat A. dog", {}, id="not_in_order"),
    ],
)
def test_options_in_a_problem(problem, options):
    assert options_in_problem(problem) == options


PIECES = ["A", "b", " ", ".", "(", "-", "option ", "Vitamin C", "dog", "3", "a ", "I", "\n", "é", "\0", "猫", "or", "$"]


@given(
    st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=30).map("".join)),
    st.lists(st.one_of(st.text(max_size=8), st.sampled_from(PIECES)), max_size=9),
)
def test_any_text_and_any_options_are_a_value(text, texts):
    options = lettered(*texts)
    match read_choice(text, options):
        case Parsed(value=letter):
            assert letter in options or not options
        case ParseFailure(reason=reason):
            assert reason in {"no_choice", "several_choices", "not_among_options"}
    assert all(letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" for letter in options_in_problem(text))


@pytest.mark.parametrize("piece", [*PIECES, "A ", "A. ", "(A", "Vitamin ", "A) B) "])
def test_the_longest_answer_is_read_in_linear_time(piece):
    text = (piece * MAX_ANSWER_CHARS)[:MAX_ANSWER_CHARS]
    start = time.process_time()
    for options in (NAMES, NUMBERS, LETTERS):
        read_choice(text, options)
        read_choice(text[:-1] + "x", options)
    options_in_problem(text)
    assert time.process_time() - start < 1.0
