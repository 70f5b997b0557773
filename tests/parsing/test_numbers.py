import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_r1.parsing.limits import MAX_ANSWER_CHARS
from vlm_r1.parsing.numbers import parse_integer, parse_number
from vlm_r1.types import Parsed, ParseFailure


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("3", 3.0, id="digit"),
        pytest.param(" 3\n", 3.0, id="white_space"),
        pytest.param("-2.5", -2.5, id="negative_fraction"),
        pytest.param(".5", 0.5, id="no_leading_zero"),
        pytest.param("1e3", 1000.0, id="exponent"),
        pytest.param("There are 3 apples.", 3.0, id="in_a_sentence"),
        pytest.param("The answer is 3.", 3.0, id="full_stop"),
        pytest.param("3, that is 3.0", 3.0, id="the_same_twice"),
        pytest.param("(7)", 7.0, id="round_brackets"),
        pytest.param("$12", 12.0, id="currency"),
        pytest.param("50%", 50.0, id="percent"),
        pytest.param("1,234", 1234.0, id="thousands"),
        pytest.param("-1,234,567.5 m", -1234567.5, id="millions_with_fraction_and_unit"),
        pytest.param("−5", -5.0, id="minus_sign"),
        pytest.param("–5", -5.0, id="en_dash"),
        pytest.param("It is −1,234.5.", -1234.5, id="minus_sign_in_a_sentence"),
        pytest.param("答案是−5", -5.0, id="minus_sign_after_an_ideograph"),
        pytest.param("5e−3", 0.005, id="minus_sign_of_an_exponent"),
        pytest.param("12cm", 12.0, id="unit_attached"),
        pytest.param("1,200km", 1200.0, id="unit_after_thousands"),
        pytest.param("3.5kWh.", 3.5, id="unit_before_a_full_stop"),
        pytest.param("60km/h", 60.0, id="unit_of_two"),
        pytest.param("5m²", 5.0, id="unit_squared"),
        pytest.param("5 m^2", 5.0, id="power_of_a_unit"),
        pytest.param("12см", 12.0, id="cyrillic_unit"),
        pytest.param("3个", 3.0, id="chinese_unit"),
        pytest.param("共3个苹果", 3.0, id="between_ideographs"),
        pytest.param("3개", 3.0, id="korean_unit"),
        pytest.param("5cm, that is 5 cm", 5.0, id="the_same_with_and_without_space"),
    ],
)
def test_reads_a_number(text, expected):
    assert parse_number(text) == Parsed(expected)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "no_number", id="empty"),
        pytest.param("three", "no_number", id="word"),
        pytest.param("3rd", "no_number", id="head_of_a_word"),
        pytest.param("mp3", "no_number", id="tail_of_a_word"),
        pytest.param("x5", "no_number", id="name"),
        pytest.param("x−5", "no_number", id="name_with_a_dash"),
        pytest.param("GPT-4", "no_number", id="name_with_a_hyphen"),
        pytest.param("4K", "no_number", id="thousands_written_on"),
        pytest.param("3万", "no_number", id="chinese_ten_thousands"),
        pytest.param("21st", "no_number", id="english_ordinal"),
        pytest.param("第3个", "no_number", id="chinese_ordinal"),
        pytest.param("3번째", "no_number", id="korean_ordinal"),
        pytest.param("12abc", "no_number", id="no_unit"),
        pytest.param("5cm5", "no_number", id="unit_with_a_digit"),
        pytest.param("1.2.3cm", "no_number", id="version_with_a_unit"),
        pytest.param("12,34cm", "no_number", id="decimal_comma_with_a_unit"),
        pytest.param("12cm or 13cm", "several_numbers", id="two_with_units"),
        pytest.param("10^5", "several_numbers", id="power"),
        pytest.param("3–4", "several_numbers", id="interval_with_an_en_dash"),
        pytest.param("3,4", "no_number", id="decimal_comma"),
        pytest.param("12,34", "no_number", id="group_of_two"),
        pytest.param("1,2345", "no_number", id="group_of_four"),
        pytest.param("1234,567", "no_number", id="first_group_of_four"),
        pytest.param("0,123", "no_number", id="group_after_zero"),
        pytest.param("1,234,56", "no_number", id="last_group_of_two"),
        pytest.param("1, 234", "several_numbers", id="comma_and_space"),
        pytest.param("1/2", "no_number", id="ratio"),
        pytest.param("1.2.3", "no_number", id="version"),
        pytest.param("٣", "no_number", id="arabic_digit"),
        pytest.param("１3", "no_number", id="full_width_digit"),
        pytest.param("NaN", "no_number", id="nan"),
        pytest.param("inf", "no_number", id="inf"),
        pytest.param("3 or 4", "several_numbers", id="two"),
        pytest.param("3-4", "several_numbers", id="interval"),
        pytest.param("1e16", "number_out_of_range", id="too_large"),
        pytest.param("-1e999", "number_out_of_range", id="overflows_a_float"),
        pytest.param("9" * 5000, "number_out_of_range", id="five_thousand_digits"),
        pytest.param("3" + " " * MAX_ANSWER_CHARS, "too_long", id="too_long"),
    ],
)
def test_fails_with_a_reason(text, reason):
    assert parse_number(text) == ParseFailure(reason)
    assert parse_integer(text) == ParseFailure(reason)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("3", Parsed(3), id="integer"),
        pytest.param("3.0", Parsed(3), id="integral_float"),
        pytest.param("-0.0", Parsed(0), id="minus_zero"),
        pytest.param("2.5", ParseFailure("not_an_integer"), id="fraction"),
    ],
)
def test_integers(text, expected):
    parsed = parse_integer(text)
    assert parsed == expected
    assert not (isinstance(parsed, Parsed) and isinstance(parsed.value, float))


@settings(deadline=None)
@given(st.integers(-(10**15), 10**15))
def test_reads_every_integer_exactly_with_and_without_separators(number):
    assert parse_integer(f"I count {number}.") == Parsed(number)
    assert parse_integer(f"I count {number:,}.") == Parsed(number)


HOSTILE = ["1cm", "1km/", "−1", "x^", "1", "1.", "1 ", "1e", "1/", "-", "+1", "1,", ".1", "1a", ",111", "1,111"]


@settings(deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from([*HOSTILE, "é", "\0", "nan"]), max_size=30).map("".join)))
def test_any_text_is_a_value(text):
    match parse_number(text):
        case Parsed(value=number):
            assert abs(number) <= 1e15
        case ParseFailure(reason=reason):
            assert reason in {"no_number", "several_numbers", "number_out_of_range"}


@pytest.mark.parametrize("piece", HOSTILE)
def test_the_longest_answer_is_read_in_linear_time(piece):
    text = (piece * MAX_ANSWER_CHARS)[:MAX_ANSWER_CHARS]
    start = time.process_time()
    parse_number(text)
    parse_number(text[1:] + "x")
    assert time.process_time() - start < 0.5
