import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_r1.parsing.limits import MAX_ANSWER_CHARS
from vlm_r1.parsing.points import parse_point
from vlm_r1.types import Parsed, ParseFailure

coordinate = st.floats(-1e6, 1e6)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[60, 120]", id="list"),
        pytest.param("(60, 120)", id="round_brackets"),
        pytest.param(" [ 60.0 ,\t1.2e2 ]\n", id="floats_and_white_space"),
        pytest.param('{"point_2d": [60, 120]}', id="point_2d"),
        pytest.param('```json\n[{"point_2d": [60, 120], "label": "OK"}]\n```', id="fenced_json"),
        pytest.param("<point>[[60, 120]]</point>", id="nested"),
        pytest.param("click(60, 120)", id="call"),
        pytest.param("I click at (60, 120), that is [60, 120].", id="the_same_point_twice"),
        pytest.param("(60, 120) of [1, 2, 3]", id="a_list_of_three_beside_it"),
        pytest.param("[10, 20, 110, 220]", id="centre_of_a_box"),
        pytest.param('{"bbox_2d": [110, 220, 10, 20]}', id="centre_of_a_swapped_box"),
        pytest.param("[10, 20, 110, 220] or [20, 30, 100, 210]", id="boxes_round_one_centre"),
        pytest.param('{"bbox_2d": [0, 0, 1, 1], "point_2d": [60, 120]}', id="a_point_before_a_box"),
        pytest.param("(10, 20), (110, 220)", id="centre_of_a_box_in_round_brackets"),
        pytest.param("<|box_start|>(10,20),(110,220)<|box_end|>", id="centre_of_a_marked_box"),
        pytest.param('{"x": 60, "y": 120}', id="named_in_json"),
        pytest.param("pyautogui.click(x=60, y=120)", id="named_arguments"),
        pytest.param('<point x="60.0" y="120" alt="OK">OK</point>', id="named_attributes"),
        pytest.param("Between [1, 2] and [3, 4]:\n```json\n[60, 120]\n```", id="one_fenced_block"),
    ],
)
def test_reads_a_point(text):
    assert parse_point(text) == Parsed((60.0, 120.0))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "no_point", id="empty"),
        pytest.param("the OK button", "no_point", id="prose"),
        pytest.param("60, 120", "no_point", id="no_brackets"),
        pytest.param("[60, 120", "no_point", id="cut_off"),
        pytest.param("[60, 120)", "no_point", id="brackets_of_two_kinds"),
        pytest.param("(60; 120)", "no_point", id="semicolon"),
        pytest.param('["60", "120"]', "no_point", id="strings"),
        pytest.param("(６０, 120)", "no_point", id="full_width_digits"),
        pytest.param("[60]", "wrong_arity", id="one"),
        pytest.param("(1, 2, 3)", "wrong_arity", id="three"),
        pytest.param("(1, 2) or (3, 4)", "several_points", id="two_points"),
        pytest.param('<points x1="1" y1="2" x2="3" y2="4">', "several_points", id="two_named_points"),
        pytest.param("max=60, y=120", "no_point", id="name_that_ends_in_x"),
        pytest.param("(10, 20), (110, 220), (10, 220)", "several_points", id="three_corners"),
        pytest.param("(10, 20), (110, 220), (1, 2), (3, 4)", "several_points", id="two_boxes_in_round_brackets"),
        pytest.param("[0, 0, 2, 2] or [0, 0, 4, 4]", "several_points", id="two_boxes"),
        pytest.param("(NaN, 1)", "number_out_of_range", id="nan"),
        pytest.param("(1, -inf)", "number_out_of_range", id="infinity"),
        pytest.param("[1e999, 1]", "number_out_of_range", id="overflows_a_float"),
        pytest.param("[0, 0, 1000001, 1]", "number_out_of_range", id="box_a_little_too_large"),
        pytest.param(f"({'9' * 5000}, 1)", "number_out_of_range", id="five_thousand_digits"),
        pytest.param("(1, 2)" + " " * MAX_ANSWER_CHARS, "too_long", id="too_long"),
    ],
)
def test_fails_with_a_reason(text, reason):
    assert parse_point(text) == ParseFailure(reason)


@settings(deadline=None)
@given(coordinate, coordinate)
def test_reads_what_is_written(x, y):
    for text in (f"[{x}, {y}]", f"({x},{y})", f'{{"point_2d": [{x}, {y}]}}'):
        assert parse_point(text) == Parsed((x, y))


HOSTILE = ["[", "]", "(", ")", "(1,", "[1,1]", "(1,2),", "[1,2,3,4]", "1,", "1e", "-.", "{", '"', " ", "nan"]


@settings(deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from([*HOSTILE, "inf", "7", "é", "\0"]), max_size=30).map("".join)))
def test_any_text_is_a_value(text):
    match parse_point(text):
        case Parsed(value=(x, y)):
            assert max(abs(x), abs(y)) <= 1e6
        case ParseFailure(reason=reason):
            assert reason in {"no_point", "wrong_arity", "several_points", "number_out_of_range"}


@pytest.mark.parametrize("piece", HOSTILE)
def test_the_longest_answer_is_read_in_linear_time(piece):
    text = (piece * MAX_ANSWER_CHARS)[:MAX_ANSWER_CHARS]
    start = time.process_time()
    parse_point(text)
    parse_point("(" + text[2:] + ")")
    assert time.process_time() - start < 0.5  # some 10 ms; a quadratic scan would take 20,000² steps
