import pytest

from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards.base import RewardInput
from vlm_r1.rewards.format import format_reward
from vlm_r1.types import Record

RECORD = Record(id="1", task="vqa", problem="?", images=(), answer="x")


@pytest.mark.parametrize(
    ("text", "thinking", "value", "expected"),
    [
        pytest.param("<think>a</think><answer>x</answer>", True, "x", 1.0, id="asked_and_kept"),
        pytest.param("<think>a</think> \n <answer>x</answer>\n", True, "x", 1.0, id="white_space_outside"),
        pytest.param("<think>a</think><answer>x</answer>", True, None, 0.0, id="answer_not_parsed"),
        pytest.param("<think>a</think><answer>x</answer>!", True, "x", 0.0, id="text_outside"),
        pytest.param("<think>a</think><answer>y</answer><answer>x</answer>", True, "x", 0.0, id="two_answers"),
        pytest.param("<think>an <answer>?</think><answer>x</answer>", True, "x", 0.0, id="tag_within_the_thought"),
        pytest.param("<answer>x</answer>", True, "x", 0.0, id="thought_missing"),
        pytest.param("x", True, "x", 0.0, id="tags_missing"),
        pytest.param("x", False, "x", 1.0, id="bare_as_asked"),
        pytest.param("<think>a</think><answer>x</answer>", False, "x", 0.0, id="tags_not_asked_for"),
        pytest.param("", False, None, 0.0, id="bare_not_parsed"),
    ],
)
def test_format_reward(text, thinking, value, expected):
    assert format_reward(RewardInput(text, split_tags(text), thinking, value, "x", (), RECORD)) == expected
