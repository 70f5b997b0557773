import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testing_json import NESTED, NESTED_IS_READ
from vlm_r1.parsing.boxes import parse_box, parse_boxes, parse_candidates
from vlm_r1.parsing.limits import MAX_ANSWER_CHARS
from vlm_r1.types import Parsed, ParseFailure

coordinate = st.floats(-1e6, 1e6)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[10, 20, 110, 220]", id="list"),
        pytest.param("[10,20,110,220]", id="no_spaces"),
        pytest.param(" \n[ 10 ,\t20,\n110, 220 ]\n", id="white_space"),
        pytest.param("[10.0, 2e1, +110, 220.]", id="floats"),
        pytest.param("[110, 220, 10, 20]", id="corners_swapped"),
        pytest.param("[110, 20, 10, 220]", id="x_swapped"),
        pytest.param('{"bbox_2d": [10, 20, 110, 220]}', id="bbox_2d"),
        pytest.param('{"bbox": [10, 20, 110, 220]}', id="bbox"),
        pytest.param('{"box_2d": [10, 20, 110, 220]}', id="box_2d"),
        pytest.param("{'bbox_2d': [10, 20, 110, 220]}", id="python_quotes"),
        pytest.param('```json\n[{"bbox_2d": [10, 20, 110, 220], "label": "dog"}]\n```', id="fenced_json"),
        pytest.param("<box>[[10, 20, 110, 220]]</box>", id="internvl"),
        pytest.param("The box is [10, 20, 110, 220].", id="in_a_sentence"),
        pytest.param('{"bbox_2d": [10, 20, 110, 220]', id="object_not_closed"),
        pytest.param("[10, 20, 110, 220] that is [10, 20, 110, 220]", id="the_same_box_twice"),
        pytest.param('{"bbox_2d": [10, 20, 110, 220], "point_2d": [60, 120]}', id="a_point_beside_it"),
        pytest.param('{"bbox_2d": [10, 20, 110, 220], "label": "shirt [red]"}', id="brackets_without_numbers"),
        pytest.param("(10,20),(110,220)", id="qwen2_vl"),
        pytest.param("( 10.0, 2e1 ) , ( 110, 220 )".replace("2e1", "20"), id="qwen2_vl_with_spaces"),
        pytest.param("(110,220),(10,20)", id="qwen2_vl_corners_swapped"),
        pytest.param("((10,20),(110,220))", id="qwen2_vl_nested"),
        pytest.param("The dog (left) is at (10,20),(110,220).", id="qwen2_vl_in_a_sentence"),
        pytest.param(
            "<|object_ref_start|>a dog<|object_ref_end|><|box_start|>(10,20),(110,220)<|box_end|>", id="qwen2_vl_marks"
        ),
        pytest.param("Not [1, 2, 3, 4]:\n```json\n[10, 20, 110, 220]\n```", id="one_fenced_block"),
    ],
)
def test_reads_a_box(text):
    assert parse_box(text) == Parsed((10.0, 20.0, 110.0, 220.0))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "no_box", id="empty"),
        pytest.param("no box here", "no_box", id="prose"),
        pytest.param("None", "no_box", id="none"),
        pytest.param("10, 20, 110, 220", "no_box", id="no_brackets"),
        pytest.param("(10, 20, 110, 220)", "no_box", id="round_brackets"),
        pytest.param("[10, 20, 110, 220", "no_box", id="cut_off"),
        pytest.param("[]", "no_box", id="empty_list"),
        pytest.param("[10, 20, , 220]", "no_box", id="missing_number"),
        pytest.param('["10", "20", "110", "220"]', "no_box", id="strings"),
        pytest.param("[true, 1, 2, 3]", "no_box", id="booleans"),
        pytest.param("[1_0, 20, 110, 220]", "no_box", id="underscores"),
        pytest.param("[0x1, 20, 110, 220]", "no_box", id="hexadecimal"),
        pytest.param("[１０, 20, 110, 220]", "no_box", id="full_width_digits"),
        pytest.param("[١, ٢, ٣, ٤]", "no_box", id="arabic_digits"),
        pytest.param("[ınf, 1, 2, 3]", "no_box", id="dotless_i"),
        pytest.param("[nane5, 1, 2, 3]", "no_box", id="nan_with_exponent"),
        pytest.param("[10, 20, 110]", "wrong_arity", id="three"),
        pytest.param("[10, 20, 110, 220, 5]", "wrong_arity", id="five"),
        pytest.param("[[10, 20], [110, 220]]", "wrong_arity", id="two_points"),
        pytest.param("[1, 2, 3, 4] or [1, 2, 3, 5]", "several_boxes", id="two_boxes"),
        pytest.param("[1, 2, 3, 4] or [3, 4, 1, 2]", "several_boxes", id="two_ways_to_write_a_box"),
        pytest.param("(1,2),(3,4) or (1,2),(3,5)", "several_boxes", id="two_boxes_in_round_brackets"),
        pytest.param("(1,2),(3,4),(5,6),(7,8)", "several_boxes", id="four_corners"),
        pytest.param("(1,2),(3,4),(5,6)", "wrong_arity", id="three_corners"),
        pytest.param("(1,2) and (3,4)", "no_box", id="two_points_in_round_brackets"),
        pytest.param("(1,2),(3,", "no_box", id="round_brackets_cut_off"),
        pytest.param("```\n[1, 2, 3, 4]\n``` ```\n[1, 2, 3, 5]\n```", "several_boxes", id="two_fenced_blocks"),
        pytest.param("[NaN, 1, 2, 3]", "number_out_of_range", id="nan"),
        pytest.param("[Infinity, 1, 2, 3]", "number_out_of_range", id="infinity"),
        pytest.param("[0, 0, -inf, 3]", "number_out_of_range", id="minus_inf"),
        pytest.param("[1e999, 1, 2, 3]", "number_out_of_range", id="overflows_a_float"),
        pytest.param("[1000001, 1, 2, 3]", "number_out_of_range", id="a_little_too_large"),
        pytest.param(f"[{'9' * 5000}, 1, 2, 3]", "number_out_of_range", id="five_thousand_digits"),
        pytest.param("[1, 2, 3, 4]" + " " * MAX_ANSWER_CHARS, "too_long", id="too_long"),
    ],
)
def test_fails_with_a_reason(text, reason):
    assert parse_box(text) == ParseFailure(reason)


@settings(deadline=None)
@given(st.tuples(*[coordinate] * 4))
def test_reads_what_is_written(written):
    x1, y1, x2, y2 = written
    expected = Parsed((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)))
    assert parse_box(str(list(written))) == expected
    assert parse_box(f'```json\n{{"bbox_2d": {list(written)}}}\n```') == expected


HOSTILE = [
    "(",
    "(1,",
    "(1,2),",
    "x=1,y=",
    "```[",
    "[",
    "]",
    "[1,",
    "[1,1]",
    "[1,2,3,4],",
    "1,",
    "1e",
    "-.",
    "{",
    '"',
    " ",
    "\\",
    "[nan,",
]


@settings(deadline=None)
@given(
    st.one_of(st.text(), st.lists(st.sampled_from([*HOSTILE, "inf", "+", "7", "é", "\0"]), max_size=30).map("".join))
)
def test_any_text_is_a_value(text):
    match parse_box(text):
        case Parsed(value=(x1, y1, x2, y2)):
            assert -1e6 <= x1 <= x2 <= 1e6
            assert -1e6 <= y1 <= y2 <= 1e6
        case ParseFailure(reason=reason):
            assert reason in {"no_box", "wrong_arity", "several_boxes", "number_out_of_range"}


@pytest.mark.parametrize("piece", HOSTILE)
def test_the_longest_answer_is_read_in_linear_time(piece):
    text = (piece * MAX_ANSWER_CHARS)[:MAX_ANSWER_CHARS]
    start = time.process_time()
    for parse in (parse_box, parse_boxes, parse_candidates):
        parse(text)
        parse("[" + text[2:] + "]")
    assert time.process_time() - start < 5  # some 20 ms; a quadratic scan would take 20,000² steps


A, B = (10.0, 20.0, 110.0, 220.0), (1.0, 2.0, 3.0, 4.0)


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        pytest.param("[10, 20, 110, 220]", (A,), id="one"),
        pytest.param("first [10, 20, 110, 220], no: [1, 2, 3, 4]", (A, B), id="two"),
        pytest.param("[1, 2, 3, 4] or [110, 20, 10, 220] or [1, 2, 3, 4]", (B, A, B), id="repeated_and_swapped"),
        pytest.param("(1,2),(3,4) or [10, 20, 110, 220] or (1,2),(3,4)", (B, A, B), id="both_kinds_of_brackets"),
        pytest.param("(10,20),(110,220),(1,2),(3,4)", (A, B), id="corners_in_a_row"),
        pytest.param("[1, 2], [10, 20, 110, 220], [1, 2, 3, 4, 5]", (A,), id="other_lists"),
        pytest.param("[9, 9, 9, 9] ```[10, 20, 110, 220][1, 2, 3, 4]```", (A, B), id="one_fenced_block"),
    ],
)
def test_candidates_are_in_the_order_written(text, boxes):
    assert parse_candidates(text) == Parsed(boxes)


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["[1, 2, 3, 4]", "[3, 4, 1, 2]", "(5,6),(7,8)", "[1, 2]", "[inf, 0, 1, 1]", "```", " ", "x"]),
        max_size=8,
    ).map("".join)
)
def test_an_answer_with_one_box_has_one_candidate_and_one_without_fails_alike(text):
    box, candidates = parse_box(text), parse_candidates(text)
    match candidates:
        case Parsed(value=boxes):
            assert box in (Parsed(boxes[0]), ParseFailure("several_boxes"))
            assert isinstance(box, ParseFailure) or set(boxes) == {box.value}
        case failure:
            assert box == failure


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        pytest.param("[[10, 20, 110, 220], [1, 2, 3, 4]]", (A, B), id="list_of_boxes"),
        pytest.param('[{"bbox_2d": [10, 20, 110, 220]}, {"bbox_2d": [1, 2, 3, 4]}]', (A, B), id="list_of_objects"),
        pytest.param('[{"bbox": [10, 20, 110, 220], "label": "a"}, [1, 2, 3, 4]]', (A, B), id="mixed"),
        pytest.param("[[10, 20, 110, 220], [10, 20, 110, 220]]", (A, A), id="repeated_boxes_all_count"),
        pytest.param("[10, 20, 110, 220]", (A,), id="one_box"),
        pytest.param('{"box_2d": [10, 20, 110, 220]}', (A,), id="one_object"),
        pytest.param("[[110, 220, 10, 20]]", (A,), id="corners_swapped"),
        pytest.param("```json\n[[1e1, 20.0, 110, 220]]\n```", (A,), id="fenced"),
        pytest.param("<box>[[10, 20, 110, 220]]</box>", (A,), id="internvl"),
        pytest.param("Two: [[10, 20, 110, 220], [1, 2, 3, 4]].", (A, B), id="in_a_sentence"),
        pytest.param("(10,20),(110,220) and (1,2),(3,4)", (A, B), id="qwen2_vl"),
        pytest.param("dog(10,20),(110,220)(1,2),(3,4)", (A, B), id="qwen2_vl_of_one_name"),
        pytest.param("(10,20),(110,220),(1,2),(3,4)", (A, B), id="qwen2_vl_corners_in_a_row"),
        pytest.param("Of [a, b]:\n```json\n[[10, 20, 110, 220]]\n``` at [1, 2]", (A,), id="one_fenced_block"),
        pytest.param("[]", (), id="empty_list"),
        pytest.param(" NONE.\n", (), id="none"),
        pytest.param("```json\nNone\n```", (), id="fenced_none"),
    ],
)
def test_reads_boxes(text, boxes):
    assert parse_boxes(text) == Parsed(boxes)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "no_box", id="empty"),
        pytest.param("none of them", "no_box", id="prose"),
        pytest.param("(1, 2, 3, 4)", "no_box", id="round_brackets"),
        pytest.param("(1,2),(3,4) and (5,6)", "wrong_arity", id="a_corner_alone"),
        pytest.param("[[1, 2, 3, 4], [5, 6", "broken_json", id="cut_off"),
        pytest.param("[1, 2, 3, 4] and [5, 6, 7, 8]", "broken_json", id="two_lists"),
        pytest.param("[" * MAX_ANSWER_CHARS, "broken_json", id="nested_deep"),
        pytest.param(NESTED, "item_without_box" if NESTED_IS_READ else "broken_json", id="nested_deep_and_closed"),
        pytest.param("{}", "item_without_box", id="empty_object"),
        pytest.param("[[1, 2, 3, 4], null]", "item_without_box", id="null"),
        pytest.param('[["1", 2, 3, 4]]', "item_without_box", id="string"),
        pytest.param("[[true, 2, 3, 4]]", "item_without_box", id="boolean"),
        pytest.param("[[[1, 2, 3, 4]]]", "item_without_box", id="nested_once_more"),
        pytest.param("[[1, 2, 3, 4], 5]", "item_without_box", id="box_and_number"),
        pytest.param("[[1, 2, 3, 4], [5, 6, 7]]", "wrong_arity", id="a_broken_box_beside_a_good_one"),
        pytest.param("[1, 2, 3]", "wrong_arity", id="three"),
        pytest.param("[[]]", "wrong_arity", id="no_numbers"),
        pytest.param("[[1, 2, 3, NaN]]", "number_out_of_range", id="nan"),
        pytest.param("[[1, 2, 3, -Infinity]]", "number_out_of_range", id="infinity"),
        pytest.param("[[1, 2, 3, 1e999]]", "number_out_of_range", id="overflows_a_float"),
        pytest.param(f"[[1, 2, 3, {'9' * 5000}]]", "number_out_of_range", id="five_thousand_digits"),
        pytest.param("None" + " " * MAX_ANSWER_CHARS, "too_long", id="too_long"),
    ],
)
def test_boxes_fail_with_a_reason(text, reason):
    assert parse_boxes(text) == ParseFailure(reason)


@settings(deadline=None)
@given(st.lists(st.tuples(*[coordinate] * 4), max_size=5))
def test_reads_the_boxes_that_are_written(written):
    expected = Parsed(tuple((min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in written))
    assert parse_boxes(str(list(map(list, written)))) == expected
    assert parse_boxes(json.dumps([{"bbox_2d": box} for box in written])) == expected


@settings(deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from([*HOSTILE, "null", "None", "}", ":"]), max_size=30).map("".join)))
def test_any_text_is_boxes_or_a_reason(text):
    match parse_boxes(text):
        case Parsed(value=boxes):
            assert all(-1e6 <= x1 <= x2 <= 1e6 and -1e6 <= y1 <= y2 <= 1e6 for x1, y1, x2, y2 in boxes)
        case ParseFailure(reason=reason):
            assert reason in {"no_box", "broken_json", "item_without_box", "wrong_arity", "number_out_of_range"}
