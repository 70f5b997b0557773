import pytest

from vlm_r1.errors import DataError
from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards.base import RewardInput
from vlm_r1.rewards.boxes import iou_reward
from vlm_r1.types import Record, Thinking

RECORD = Record(
    id="1", task="rec", problem="<image>the dog", images=("a.png",), answer=[0, 0, 10, 10], source="f.jsonl:7"
)


def _given(value, gold):
    return RewardInput("", split_tags(""), Thinking.REQUIRED, value, gold, (), RECORD)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param((0.0, 0.0, 10.0, 10.0), 1.0, id="equal"),
        pytest.param((0.0, 0.0, 10.0, 5.0), 50 / 100, id="half"),
        pytest.param((0.0, 0.0, 20.0, 20.0), 100 / 400, id="four_times_as_large"),
        pytest.param((20.0, 20.0, 30.0, 30.0), 0.0, id="apart"),
        pytest.param(None, 0.0, id="nothing_parsed"),
    ],
)
def test_iou_reward(value, expected):
    assert iou_reward(_given(value, (0.0, 0.0, 10.0, 10.0))) == expected


@pytest.mark.parametrize("value", [None, 3])
def test_a_gold_answer_that_is_no_box_names_the_record(value):
    with pytest.raises(DataError, match=r'^f\.jsonl:7: reward "iou" compares boxes, but .* is 3; choose another'):
        iou_reward(_given(value, 3))
