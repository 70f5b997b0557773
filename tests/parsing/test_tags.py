import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_r1.parsing.tags import TAGS, read_gold, split_tags

pieces = st.lists(st.sampled_from([*TAGS, "<THINK>", "<answer", "a", " ", "\n", "[1, 2]"]), max_size=12).map("".join)


@pytest.mark.parametrize(
    ("text", "thought", "answer", "well_formed"),
    [
        pytest.param("<think>a</think><answer>b</answer>", "a", "b", True, id="plain"),
        pytest.param(" <think>a</think>\n<answer> b\n</answer>\n", "a", " b\n", True, id="white_space_is_free"),
        pytest.param("<think></think><answer></answer>", "", "", True, id="empty_blocks"),
        pytest.param("<think>a</think><answer>b</answer> done", "a", "b", False, id="text_after"),
        pytest.param("Well: <think>a</think><answer>b</answer>", "a", "b", False, id="text_before"),
        pytest.param("<think>a</think> so <answer>b</answer>", "a", "b", False, id="text_between"),
        pytest.param("<answer>b</answer>", None, "b", False, id="no_thought"),
        pytest.param("<think>a</think>", "a", None, False, id="no_answer"),
        pytest.param("b", None, None, False, id="no_tags"),
        pytest.param("", None, None, False, id="empty"),
        pytest.param("<think>a</think><answer>b", "a", None, False, id="answer_cut_off"),
        pytest.param("<think>a <answer>b</answer>", None, None, False, id="thought_never_closed"),
        pytest.param("<think>a<answer>x</answer></think>", "a<answer>x</answer>", None, False, id="answer_in_thought"),
        pytest.param(
            "<think>a<answer>x</answer></think><answer>b</answer>",
            "a<answer>x</answer>",
            "b",
            False,
            id="answer_in_thought_and_after",
        ),
        pytest.param("<think>a</think><answer>x</answer><answer>b</answer>", "a", "b", False, id="last_answer_counts"),
        pytest.param("<think>a</think><answer>b</answer><answer>c", "a", "b", False, id="last_complete_answer"),
        pytest.param("<think>a</think><answer>b</answer></answer>", "a", "b", False, id="closed_twice"),
        pytest.param("<think>a</think><answer>x<answer>b</answer>", "a", "b", False, id="opened_twice"),
        pytest.param("<answer>b</answer><think>a</think>", "a", None, False, id="answer_before_thought"),
        pytest.param("</think><think><answer></answer>", None, None, False, id="closing_first"),
        pytest.param("<think>a</think></answer>b<answer>", "a", None, False, id="answer_closed_before_opened"),
        pytest.param("<Think>a</Think><Answer>b</Answer>", None, None, False, id="upper_case"),
        pytest.param("<think>a<think>b</think><answer>c</answer>", "a<think>b", "c", False, id="thought_opened_twice"),
    ],
)
def test_split_tags(text, thought, answer, well_formed):
    tagged = split_tags(text)
    assert (tagged.thought, tagged.answer, tagged.well_formed) == (thought, answer, well_formed)
    assert tagged.tag_count == sum(text.count(tag) for tag in TAGS)


@settings(deadline=None)
@given(pieces)
def test_an_answer_holds_no_answer_tag_and_stands_after_the_thought(text):
    tagged = split_tags(text)
    if tagged.answer is not None:
        assert "<answer>" not in tagged.answer
        assert "</answer>" not in tagged.answer
        after_thought = text.partition("<think>")[2].partition("</think>")[2] if "<think>" in text else text
        assert f"<answer>{tagged.answer}</answer>" in after_thought


@settings(deadline=None)
@given(pieces, pieces)
def test_well_formed_means_four_tags_and_nothing_else(thought, answer):
    text = f" <think>{thought}</think>\n<answer>{answer}</answer> "
    tagged = split_tags(text)
    assert tagged.well_formed == (not any(tag in thought + answer for tag in TAGS))
    if tagged.well_formed:
        assert (tagged.thought, tagged.answer) == (thought, answer)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("<think>a</think><answer>b</answer>", ("a", "b"), id="both"),
        pytest.param("<think> a </think>\n<answer>\nb </answer>", ("a", "b"), id="outer_white_space_goes"),
        pytest.param("<answer>b</answer>", (None, "b"), id="answer_only"),
        pytest.param(" b ", (None, "b"), id="bare"),
        pytest.param("<think>a</think> b", ("a", "b"), id="bare_after_thought"),
        pytest.param("a < b", (None, "a < b"), id="angle_bracket"),
        pytest.param("", (None, ""), id="empty"),
    ],
)
def test_read_gold(text, expected):
    assert read_gold(text) == expected
