import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testing_json import NESTED, NESTED_IS_READ
from vlm_r1.parsing.labelled_boxes import LabelledBox, parse_labelled_boxes
from vlm_r1.parsing.limits import MAX_ANSWER_CHARS
from vlm_r1.types import Parsed, ParseFailure

CAT = LabelledBox("cat", (10.0, 20.0, 110.0, 220.0))
CAR = LabelledBox("red car", (1.0, 2.0, 3.0, 4.0))
CAT_JSON = '{"bbox_2d": [10, 20, 110, 220], "label": "cat"}'
CAR_JSON = '{"bbox_2d": [1, 2, 3, 4], "label": "red car"}'


@pytest.mark.parametrize(
    ("text", "objects"),
    [
        pytest.param(f"[{CAT_JSON}, {CAR_JSON}]", (CAT, CAR), id="list"),
        pytest.param(f"```json\n[\n\t{CAT_JSON},\n\t{CAR_JSON}\n]\n```", (CAT, CAR), id="fenced"),
        pytest.param(f"I see: [{CAT_JSON}].", (CAT,), id="in_a_sentence"),
        pytest.param(CAT_JSON, (CAT,), id="one_object_without_list"),
        pytest.param(f"[{CAT_JSON}, {CAT_JSON}]", (CAT, CAT), id="repeated_boxes_all_count"),
        pytest.param('[{"bbox": [10, 20, 110, 220], "label": "cat"}]', (CAT,), id="bbox"),
        pytest.param('[{"label": "cat", "box_2d": [10, 20, 110, 220]}]', (CAT,), id="box_2d"),
        pytest.param('[{"bbox_2d": [110, 220, 10, 20], "label": "cat"}]', (CAT,), id="corners_swapped"),
        pytest.param('[{"bbox_2d": [10.0, 2e1, 110, 220], "label": "cat", "score": 1}]', (CAT,), id="other_keys"),
        pytest.param(
            '[{"bbox_2d": [1, 2, 3, 4], "label": "a [b] {c}"}]',
            (LabelledBox("a [b] {c}", CAR.box),),
            id="brackets_in_a_label",
        ),
        pytest.param("cat(10,20),(110,220)", (CAT,), id="qwen2_vl"),
        pytest.param("<ref>cat</ref><box>(10,20),(110,220)</box>", (CAT,), id="qwen_vl_marks"),
        pytest.param("cat: (10, 20), (110, 220)\ncat: (110,20),(10,220).", (CAT, CAT), id="qwen2_vl_lines"),
        pytest.param(
            "<|object_ref_start|>cat<|object_ref_end|><|box_start|>(10,20),(110,220)<|box_end|>"
            "<|box_start|>(10,20),(110,220)<|box_end|>",
            (CAT, CAT),
            id="qwen2_vl_two_boxes_of_a_name",
        ),
        pytest.param(f"Of [cat, dog] I see:\n```json\n[{CAT_JSON}]\n```\n[end]", (CAT,), id="one_fenced_block"),
        pytest.param("[]", (), id="empty_list"),
        pytest.param("```json\n[]\n```", (), id="empty_fenced_list"),
        pytest.param("None", (), id="none"),
        pytest.param(" none.\n", (), id="none_in_other_ways"),
        pytest.param("```json\nNone\n```", (), id="fenced_none"),
    ],
)
def test_reads_objects(text, objects):
    assert parse_labelled_boxes(text) == Parsed(objects)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "no_box", id="empty"),
        pytest.param("There is no cat.", "no_box", id="prose"),
        pytest.param("```json\n\n```", "no_box", id="empty_fence"),
        pytest.param(f"[{CAT_JSON}, {CAR_JSON[:-9]}", "broken_json", id="cut_off"),
        pytest.param(f"[{CAT_JSON}", "broken_json", id="list_not_closed"),
        pytest.param(f"[{CAT_JSON} {CAR_JSON}]", "broken_json", id="comma_missing"),
        pytest.param(f"[{CAT_JSON}] [{CAR_JSON}]", "broken_json", id="two_lists"),
        pytest.param("[{'bbox_2d': [1, 2, 3, 4], 'label': 'cat'}]", "broken_json", id="python_quotes"),
        pytest.param("[" * MAX_ANSWER_CHARS, "broken_json", id="nested_deep"),
        pytest.param(NESTED, "item_without_box" if NESTED_IS_READ else "broken_json", id="nested_deep_and_closed"),
        pytest.param(f"```\n[{CAT_JSON}]\n``` ```\n[{CAR_JSON}]\n```", "broken_json", id="two_fenced_blocks"),
        pytest.param("(10,20),(110,220)", "item_without_label", id="round_brackets_without_label"),
        pytest.param("cat(10,20)", "wrong_arity", id="one_corner"),
        pytest.param("cat(10,20),(110,220) and so on", "no_box", id="words_after_the_last_box"),
        pytest.param("[10, 20, 110, 220]", "item_without_box", id="bare_box"),
        pytest.param("{}", "item_without_box", id="empty_object"),
        pytest.param(f'[{CAT_JSON}, {{"label": "cat"}}]', "item_without_box", id="label_alone"),
        pytest.param('[{"bbox_2d": ["1", "2", "3", "4"], "label": "a"}]', "item_without_box", id="strings"),
        pytest.param('[{"bbox_2d": [true, 2, 3, 4], "label": "a"}]', "item_without_box", id="boolean"),
        pytest.param('[{"bbox_2d": [[1, 2], [3, 4]], "label": "a"}]', "item_without_box", id="two_points"),
        pytest.param(f'[{CAT_JSON}, {{"bbox_2d": [1, 2, 3, 4]}}]', "item_without_label", id="box_alone"),
        pytest.param('[{"bbox_2d": [1, 2, 3, 4], "label": 7}]', "item_without_label", id="label_is_a_number"),
        pytest.param('[{"bbox_2d": [1, 2, 3, 4], "label": " "}]', "item_without_label", id="blank_label"),
        pytest.param('[{"bbox_2d": [1, 2, 3], "label": "a"}]', "wrong_arity", id="three"),
        pytest.param('[{"bbox_2d": [], "label": "a"}]', "wrong_arity", id="no_numbers"),
        pytest.param('[{"bbox_2d": [1, 2, 3, NaN], "label": "a"}]', "number_out_of_range", id="nan"),
        pytest.param('[{"bbox_2d": [1, 2, 3, -Infinity], "label": "a"}]', "number_out_of_range", id="infinity"),
        pytest.param('[{"bbox_2d": [1, 2, 3, 1e999], "label": "a"}]', "number_out_of_range", id="overflows_a_float"),
        pytest.param(
            f'[{{"bbox_2d": [1, 2, 3, {"9" * 5000}], "label": "a"}}]', "number_out_of_range", id="five_thousand_digits"
        ),
        pytest.param("None" + " " * MAX_ANSWER_CHARS, "too_long", id="too_long"),
    ],
)
def test_fails_with_a_reason(text, reason):
    assert parse_labelled_boxes(text) == ParseFailure(reason)


number = st.floats(-1e6, 1e6)
labelled = st.builds(
    LabelledBox,
    st.text(min_size=1, max_size=10).filter(str.strip),
    st.tuples(number, number, number, number).map(
        lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
    ),
)


@settings(deadline=None)
@given(st.lists(labelled, max_size=5))
def test_reads_what_is_written(objects):
    text = json.dumps([{"bbox_2d": list(item.box), "label": item.label} for item in objects])
    assert parse_labelled_boxes(text) == Parsed(tuple(objects))
    assert parse_labelled_boxes(f"```json\n{text}\n```") == Parsed(tuple(objects))


HOSTILE = ["[", "]", "{", "}", '"', "[{", '{"bbox_2d":', "[1,1,1,1]", ',"label":', '"a"', "},", "NaN", "\\", "null"]
REASONS = {"no_box", "broken_json", "item_without_box", "item_without_label", "wrong_arity", "number_out_of_range"}


@settings(deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from([*HOSTILE, "7", "None", "\0"]), max_size=30).map("".join)))
def test_any_text_is_a_value(text):
    match parse_labelled_boxes(text):
        case Parsed(value=objects):
            assert all(item.box[0] <= item.box[2] and item.box[1] <= item.box[3] for item in objects)
        case ParseFailure(reason=reason):
            assert reason in REASONS


@pytest.mark.parametrize("piece", HOSTILE)
def test_the_longest_answer_is_read_in_linear_time(piece):
    text = (piece * MAX_ANSWER_CHARS)[:MAX_ANSWER_CHARS]
    start = time.process_time()
    parse_labelled_boxes(text)
    parse_labelled_boxes("[" + text[2:] + "]")
    assert time.process_time() - start < 0.5  # some 10 ms; a quadratic scan would take 20,000² steps
