import pytest

from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards.base import RewardInput
from vlm_r1.rewards.format import format_reward
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
    assert format_reward(RewardInput(text, split_tags(text), thinking, value, "x", (), RECORD)) == expected
