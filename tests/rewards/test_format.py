import pytest

from testing_json import NESTED, NESTED_IS_READ
from vlm_r1.parsing.limits import MAX_ANSWER_CHARS
from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards.base import RewardInput
from vlm_r1.rewards.format import format_reward, json_format, one_answer, tags
from vlm_r1.types import Record, Thinking

RECORD = Record(id="1", task="vqa", problem="?", images=(), answer="x")


@pytest.mark.parametrize(
    ("text", "thinking", "value", "expected"),
    [
        pytest.param("<think>a</think><answer>x</answer>", Thinking.REQUIRED, "x", 1.0, id="asked_and_kept"),
        pytest.param("<think>a</think> \n <answer>x</answer>\n", Thinking.REQUIRED, "x", 1.0, id="white_space_outside"),
        pytest.param("<think>a</think><answer>x</answer>", Thinking.REQUIRED, None, 0.0, id="answer_not_parsed"),
        pytest.param("<think>a</think><answer>x</answer>!", Thinking.REQUIRED, "x", 0.0, id="text_outside"),
        pytest.param(
            "<think>a</think><answer>y</answer><answer>x</answer>", Thinking.REQUIRED, "x", 0.0, id="two_answers"
        ),
        pytest.param(
            "<think>an <answer>?</think><answer>x</answer>", Thinking.REQUIRED, "x", 0.0, id="tag_within_the_thought"
        ),
        pytest.param("<answer>x</answer>", Thinking.REQUIRED, "x", 0.0, id="thought_missing"),
        pytest.param("x", Thinking.REQUIRED, "x", 0.0, id="tags_missing"),
        pytest.param("x", Thinking.ABSENT, "x", 1.0, id="bare_as_asked"),
        pytest.param("<think>a</think><answer>x</answer>", Thinking.ABSENT, "x", 0.0, id="tags_not_asked_for"),
        pytest.param("<answer>x</answer>", Thinking.FREE, "x", 1.0, id="free_without_a_thought"),
        pytest.param("<think>a</think><answer>x</answer>", Thinking.FREE, "x", 1.0, id="free_with_a_thought"),
        pytest.param("so <answer>x</answer>", Thinking.FREE, "x", 0.0, id="free_with_text_outside"),
        pytest.param("<think>a<answer>x</answer>", Thinking.FREE, "x", 0.0, id="free_with_a_thought_unclosed"),
        pytest.param("x", Thinking.FREE, "x", 0.0, id="free_is_not_absent"),
        pytest.param("", Thinking.ABSENT, None, 0.0, id="bare_not_parsed"),
    ],
)
def test_format_reward(text, thinking, value, expected):
    assert format_reward(_given(text, thinking, value)) == expected


def _given(text, thinking=Thinking.REQUIRED, value=None):
    return RewardInput(text, split_tags(text), thinking, value, "x", (), RECORD)


@pytest.mark.parametrize(
    ("text", "thinking", "expected"),
    [
        pytest.param("<think>a</think><answer></answer>", Thinking.REQUIRED, 1.0, id="whatever_the_answer"),
        pytest.param("<answer>x</answer>", Thinking.REQUIRED, 0.0, id="thought_missing"),
        pytest.param("<answer>x</answer>", Thinking.FREE, 1.0, id="free"),
        pytest.param("anything", Thinking.ABSENT, 1.0, id="bare"),
        pytest.param("any<think>thing", Thinking.ABSENT, 0.0, id="a_tag_not_asked_for"),
    ],
)
def test_tags(text, thinking, expected):
    assert tags(_given(text, thinking)) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param('[{"bbox_2d": [1, 2, 3, 4], "label": "cat"}]', 1.0, id="list"),
        pytest.param(' {"answer": null}\n', 1.0, id="object"),
        pytest.param('```json\n[{"label": "cat"}]\n```', 1.0, id="fenced"),
        pytest.param("```\n[]\n```", 1.0, id="fence_without_a_name"),
        pytest.param("None", 1.0, id="nothing_found"),
        pytest.param("```json\nNone\n```", 1.0, id="nothing_found_fenced"),
        pytest.param("3", 0.0, id="number"),
        pytest.param('"None"', 0.0, id="string"),
        pytest.param("a cat", 0.0, id="words"),
        pytest.param("", 0.0, id="empty"),
        pytest.param("``````", 0.0, id="empty_fence"),
        pytest.param("[1, 2, 3", 0.0, id="cut_off"),
        pytest.param("[1] [2]", 0.0, id="two_answers"),
        pytest.param("```json\n[1]\n``` ```json\n[2]\n```", 0.0, id="two_fences"),
        pytest.param("[1, 2, 3,]", 0.0, id="comma_at_the_end"),
        pytest.param("{'a': 1}", 0.0, id="single_quotes"),
        pytest.param("[NaN]", 0.0, id="nan"),
        pytest.param("[-Infinity]", 0.0, id="infinity"),
        pytest.param("[" + "1" * 5000 + "]", 1.0, id="five_thousand_digits"),
        pytest.param(NESTED, float(NESTED_IS_READ), id="nested_too_deep"),
        pytest.param("[" + " " * MAX_ANSWER_CHARS + "]", 0.0, id="too_long"),
        pytest.param("Here it is: [1]", 0.0, id="sentence_before"),
    ],
)
def test_json_format(answer, expected):
    assert json_format(_given(answer, Thinking.ABSENT)) == expected
    assert json_format(_given(f"<think>a</think><answer>{answer}</answer>")) == expected


@pytest.mark.parametrize(
    ("text", "thinking", "expected"),
    [
        pytest.param("[1]", Thinking.REQUIRED, 0.0, id="json_without_the_tags_asked_for"),
        pytest.param("<think><answer>[1]</answer></think>", Thinking.REQUIRED, 0.0, id="answer_inside_the_thinking"),
        pytest.param("so: <answer>[1]</answer>", Thinking.FREE, 1.0, id="what_stands_outside_is_for_tags"),
        pytest.param("<answer>[1]</answer>", Thinking.ABSENT, 1.0, id="tags_not_asked_for_are_for_tags"),
        pytest.param("[1]<think>", Thinking.ABSENT, 0.0, id="no_bare_answer"),
    ],
)
def test_json_is_looked_for_in_the_answer(text, thinking, expected):
    assert json_format(_given(text, thinking)) == expected


@pytest.mark.parametrize(
    ("text", "thinking", "value", "expected"),
    [
        pytest.param("<think>a</think><answer>x</answer>", Thinking.REQUIRED, "x", 1.0, id="one"),
        pytest.param("well <answer>x</answer>.", Thinking.REQUIRED, "x", 1.0, id="the_rest_is_not_looked_at"),
        pytest.param("<answer>A or B</answer>", Thinking.REQUIRED, None, 0.0, id="no_single_candidate"),
        pytest.param("<answer>x</answer><answer>y</answer>", Thinking.REQUIRED, "y", 0.0, id="two"),
        pytest.param("<think><answer>x</answer></think><answer>y</answer>", Thinking.FREE, "y", 0.0, id="in_thought"),
        pytest.param("<answer><answer>x</answer>", Thinking.FREE, "x", 0.0, id="opened_twice"),
        pytest.param("x", Thinking.REQUIRED, "x", 0.0, id="none"),
        pytest.param("x", Thinking.ABSENT, "x", 1.0, id="bare"),
        pytest.param("<answer>x</answer>", Thinking.ABSENT, "x", 0.0, id="not_bare"),
    ],
)
def test_one_answer(text, thinking, value, expected):
    assert one_answer(_given(text, thinking, value)) == expected
