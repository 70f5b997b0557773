import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_r1.parsing.choices import parse_choice, parse_text, parse_yes_no
from vlm_r1.parsing.limits import MAX_ANSWER_CHARS
from vlm_r1.types import Parsed, ParseFailure


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


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        pytest.param("B", "B", id="alone"),
        pytest.param(" b\n", "B", id="small"),
        pytest.param("(B)", "B", id="brackets"),
        pytest.param("(b) the dog", "B", id="small_in_brackets"),
        pytest.param("B.", "B", id="full_stop"),
        pytest.param("B) cat", "B", id="bracket_and_text"),
        pytest.param("A. a cat", "A", id="text_with_an_article"),
        pytest.param("A: cat", "A", id="colon"),
        pytest.param("A\ncat", "A", id="line_of_its_own"),
        pytest.param("**B**", "B", id="bold"),
        pytest.param("\\boxed{A}", "A", id="boxed"),
        pytest.param("'B'", "B", id="quoted"),
        pytest.param("The answer is B", "B", id="sentence"),
        pytest.param("The answer is a.", "A", id="sentence_in_small_letters"),
        pytest.param("I think it's B, because a dog is not a cat", "B", id="pronoun_and_articles"),
        pytest.param("I'm sure that A is right", "A", id="subject"),
        pytest.param("I choose A as the answer", "A", id="object"),
        pytest.param("Option A shows a dog", "A", id="named"),
        pytest.param("option b shows a dog", "B", id="named_small"),
        pytest.param("B. So the answer is B.", "B", id="the_same_twice"),
        pytest.param("B. the T-shirt of a U.S. team", "B", id="letters_of_compounds"),
        pytest.param("答案是B。", "B", id="chinese"),
        pytest.param("A - dog", "A", id="dash"),
        pytest.param("A – dog", "A", id="en_dash"),
        pytest.param("A — dog", "A", id="em_dash"),
        pytest.param("A (dog)", "A", id="bracket"),
        pytest.param("A [dog]", "A", id="square_bracket"),
        pytest.param("A = 45", "A", id="equals"),
        pytest.param("A 45°", "A", id="number"),
        pytest.param("A 45 cm", "A", id="number_and_unit"),
        pytest.param("A −45", "A", id="negative_number"),
        pytest.param("A $45^\\circ$", "A", id="formula"),
        pytest.param("A \\frac{1}{2}", "A", id="command"),
        pytest.param("A | dog", "A", id="bar"),
        pytest.param('A "dog"', "A", id="quote"),
        pytest.param("A “dog”", "A", id="curly_quote"),
        pytest.param("I - dog", "I", id="ninth_option_and_dash"),
        pytest.param("Not A but C", "C", id="one_negated"),
        pytest.param("Answer: A dog", "A", id="after_answer"),
        pytest.param("Answer - A dog", "A", id="after_answer_and_a_dash"),
        pytest.param("The answer is A dog", "A", id="after_the_answer_is"),
        pytest.param("The answer is A (the dog)", "A", id="after_the_answer_is_with_bracket"),
        pytest.param("The answer is **A** dog", "A", id="after_the_answer_is_bold"),
        pytest.param("Answer: I think it is B", "B", id="pronoun_after_answer"),
    ],
)
def test_reads_a_choice(text, letter):
    assert parse_choice(text) == Parsed(letter)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "no_choice", id="empty"),
        pytest.param("the dog", "no_choice", id="text_of_an_option"),
        pytest.param("DOG", "no_choice", id="capitals_of_a_word"),
        pytest.param("A red bus", "no_choice", id="article"),
        pytest.param("A dog is on the left", "no_choice", id="article_of_a_sentence"),
        pytest.param("A 3 year old boy", "no_choice", id="article_before_a_number_of_years"),
        pytest.param("A 12-inch pizza", "no_choice", id="article_before_a_number"),
        pytest.param("The answer is a dog", "no_choice", id="small_article_after_answer"),
        pytest.param("I do not know", "no_choice", id="pronoun"),
        pytest.param("vitamin-C", "no_choice", id="tail_of_a_compound"),
        pytest.param("X-ray", "no_choice", id="head_of_a_compound"),
        pytest.param("e.g. this, i.e. that", "no_choice", id="abbreviations"),
        pytest.param("B2", "no_choice", id="with_a_digit"),
        pytest.param("Ｂ", "no_choice", id="full_width"),
        pytest.param("В", "no_choice", id="cyrillic"),
        pytest.param("It is not B", "no_choice", id="negated"),
        pytest.param("A 50% discount", "no_choice", id="article_before_a_percentage"),
        pytest.param("A and B", "several_choices", id="and"),
        pytest.param("a or b", "several_choices", id="small_or"),
        pytest.param("A OR B?", "several_choices", id="or_in_capitals"),
        pytest.param("A, B, C, D", "several_choices", id="list"),
        pytest.param("A/B", "several_choices", id="slash"),
        pytest.param("(A) no, (B)", "several_choices", id="second_thought"),
        pytest.param("A或B", "several_choices", id="chinese_or"),
        pytest.param("B" + " " * MAX_ANSWER_CHARS, "too_long", id="too_long"),
    ],
)
def test_is_no_choice(text, reason):
    assert parse_choice(text) == ParseFailure(reason)


@pytest.mark.parametrize("letter", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
@pytest.mark.parametrize("form", ["{}", "({})", "{}.", "{}) text", "The answer is {}", "Answer: {}"])
def test_every_letter_in_every_form(letter, form):
    assert parse_choice(form.format(letter)) == parse_choice(form.format(letter.lower())) == Parsed(letter)


@pytest.mark.parametrize("letter", "ABI")
@pytest.mark.parametrize(
    "form",
    [
        "{} - dog",
        "{} – dog",
        "{} (dog)",
        "{} 45°",
        "{} $45^\\circ$",
        "{} = 45",
        "{} | dog",
        '{} "dog"',
        "Answer: {} dog",
    ],
)
def test_a_letter_that_may_be_a_word_is_read_in_every_form_in_which_another_is(letter, form):
    assert parse_choice(form.format(letter)) == Parsed(letter)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        pytest.param("yes", True, id="yes"),
        pytest.param(" NO!\n", False, id="no"),
        pytest.param("Yes, it is a knot.", True, id="no_within_a_word"),
        pytest.param("No, there is none.", False, id="no_twice_once_within_a_word"),
        pytest.param("<b>No</b>", False, id="marked_up"),
        pytest.param("yes, yes", True, id="the_same_twice"),
        pytest.param("No, it is not.", False, id="not_after_it"),
    ],
)
def test_reads_a_verdict(text, verdict):
    assert parse_yes_no(text) == Parsed(verdict)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "no_yes_or_no", id="empty"),
        pytest.param("maybe", "no_yes_or_no", id="neither"),
        pytest.param("I know nothing", "no_yes_or_no", id="within_words"),
        pytest.param("yesterday", "no_yes_or_no", id="head_of_a_word"),
        pytest.param("no-one", "no_yes_or_no", id="compound"),
        pytest.param("not yes", "no_yes_or_no", id="negated"),
        pytest.param("nο", "no_yes_or_no", id="greek_letter"),
        pytest.param("yes and no", "yes_and_no", id="both"),
        pytest.param("yes/no", "yes_and_no", id="copied_prompt"),
        pytest.param("yes" + " " * MAX_ANSWER_CHARS, "too_long", id="too_long"),
    ],
)
def test_is_no_verdict(text, reason):
    assert parse_yes_no(text) == ParseFailure(reason)


PIECES = ["A", "b", " ", ".", "(", "'", "-", "option ", "e.g.", "not ", "no", "yes", "I", "\n", "é", "\0", "猫", "or"]


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=30).map("".join)))
def test_any_text_is_a_value(text):
    match parse_choice(text):
        case Parsed(value=letter):
            assert letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
        case ParseFailure(reason=reason):
            assert reason in {"no_choice", "several_choices"}
    assert parse_yes_no(text) in (
        Parsed(True),
        Parsed(False),
        ParseFailure("no_yes_or_no"),
        ParseFailure("yes_and_no"),
    )


@pytest.mark.parametrize("piece", [*PIECES, "A ", "A  \t", "not not ", "(A"])
def test_the_longest_answer_is_read_in_linear_time(piece):
    text = (piece * MAX_ANSWER_CHARS)[:MAX_ANSWER_CHARS]
    start = time.process_time()
    for read in (parse_choice, parse_yes_no):
        read(text)
        read(text[:-1] + "x")
    assert time.process_time() - start < 0.5
