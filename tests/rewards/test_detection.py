import pytest

from vlm_r1.errors import DataError
from vlm_r1.parsing.labelled_boxes import LabelledBox
from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards import REWARDS
from vlm_r1.rewards.base import RewardInput
from vlm_r1.rewards.detection import ap50_reward, map_reward, odlength_reward
from vlm_r1.types import Record, Thinking

CAT = LabelledBox("cat", (0.0, 0.0, 10.0, 10.0))
ROUGH_CAT = LabelledBox("cat", (0.0, 0.0, 10.0, 6.2))  # IoU 0.62: three of the ten thresholds
DOG = LabelledBox("dog", (20.0, 0.0, 30.0, 10.0))
ZEBRA = LabelledBox("zebra", (40.0, 0.0, 50.0, 10.0))
RECORD = Record("1", "ovd", "<image>cat, dog", ("a.png",), "None", source="f.jsonl:7")


def _given(value, gold):
    return RewardInput("", split_tags(""), Thinking.REQUIRED, value, gold, (), RECORD)


@pytest.mark.parametrize(
    ("value", "gold", "expected_map", "expected_ap50", "expected_odlength"),
    [
        pytest.param((CAT, DOG), (CAT, DOG), 1.0, 1.0, 1.0, id="right"),
        pytest.param((DOG, CAT), (CAT, DOG), 1.0, 1.0, 1.0, id="order_of_labels_is_free"),
        pytest.param((ROUGH_CAT,), (CAT,), 3 / 10, 1.0, 3 / 10, id="rough"),
        pytest.param((CAT,), (CAT, DOG), 1 / 2, 1 / 2, 1 / 2, id="too_few_is_not_scaled"),
        pytest.param((CAT, ZEBRA), (CAT,), 1.0, 1.0, 1 / 2, id="absent_label"),
        pytest.param((CAT,) + (ZEBRA,) * 23, (CAT,), 1.0, 1.0, 1 / 24, id="everything_listed"),
        pytest.param((ROUGH_CAT, ZEBRA), (CAT,), 3 / 10, 1.0, 3 / 10 / 2, id="rough_and_absent"),
        pytest.param((), (), 1.0, 1.0, 1.0, id="none_and_none"),
        pytest.param((CAT,), (), 0.0, 0.0, 0.0, id="nothing_there"),
        pytest.param((), (CAT,), 0.0, 0.0, 0.0, id="nothing_found"),
        pytest.param(None, (CAT,), 0.0, 0.0, 0.0, id="nothing_parsed"),
        pytest.param(None, (), 0.0, 0.0, 0.0, id="nothing_parsed_is_not_none"),
    ],
)
def test_by_hand(value, gold, expected_map, expected_ap50, expected_odlength):
    given = _given(value, gold)
    assert map_reward(given) == pytest.approx(expected_map, abs=1e-12)
    assert ap50_reward(given) == pytest.approx(expected_ap50, abs=1e-12)
    assert odlength_reward(given) == pytest.approx(expected_odlength, abs=1e-12)


@pytest.mark.parametrize("name", ["map", "ap50", "odlength"])
@pytest.mark.parametrize("gold", ["cat", (0.0, 0.0, 1.0, 1.0)])
def test_a_gold_answer_of_another_kind_names_the_record(name, gold):
    with pytest.raises(DataError, match=rf'^f\.jsonl:7: reward "{name}" compares sets of labelled boxes, but '):
        REWARDS[name](_given(None, gold))


def test_names_of_the_original_are_known():
    assert REWARDS["od_ap"] is map_reward
    assert REWARDS["od_ap50"] is ap50_reward
    assert REWARDS["od_length"] is REWARDS["odLength"] is odlength_reward
