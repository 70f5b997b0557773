import json
import random
from itertools import combinations, permutations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_r1.errors import ConfigError, DataError
from vlm_r1.geometry.boxes import order_corners
from vlm_r1.parsing.labelled_boxes import LabelledBox, parse_labelled_boxes
from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards import REWARDS
from vlm_r1.rewards.base import RewardInput
from vlm_r1.rewards.detection import (
    ap50_reward,
    count_penalty,
    map_reward,
    odlength_reward,
    set_f1_reward,
    weighted_sum_reward,
)
from vlm_r1.tasks.ovd import Ovd
from vlm_r1.types import Parsed, Record, Thinking

CAT = LabelledBox("cat", (0.0, 0.0, 10.0, 10.0))
ROUGH_CAT = LabelledBox("cat", (0.0, 0.0, 10.0, 6.2))  # IoU 0.62: three of the ten thresholds
DOG = LabelledBox("dog", (20.0, 0.0, 30.0, 10.0))
ZEBRA = LabelledBox("zebra", (40.0, 0.0, 50.0, 10.0))
DOG_ON_CAT = LabelledBox("dog", CAT.box)
ZEBRA_ON_CAT = LabelledBox("zebra", CAT.box)
RECORD = Record("1", "ovd", "<image>cat, dog", ("a.png",), "None", source="f.jsonl:7")
NAMES = ["map", "ap50", "odlength", "nms_ap", "set_f1", "weighted_sum", "count_penalty"]


def _given(value, gold):
    return RewardInput("", split_tags(""), Thinking.REQUIRED, value, gold, (), RECORD)


@pytest.mark.parametrize(
    ("value", "gold", "expected"),  # in the order of NAMES; weighted_sum is 0.7 · position + 0.3 · completeness
    [
        pytest.param((CAT, DOG), (CAT, DOG), (1, 1, 1, 1, 1, 1, 0), id="right"),
        pytest.param((DOG, CAT), (CAT, DOG), (1, 1, 1, 1, 1, 1, 0), id="order_of_labels_is_free"),
        pytest.param((ROUGH_CAT,), (CAT,), (0.3, 1, 0.3, 0.3, 1, 0.7 * 0.62 + 0.3, 0), id="rough"),
        pytest.param(
            (CAT,),
            (CAT, DOG),
            (1 / 2, 1 / 2, 1 / 2, 1 / 2, 2 / 3, 0.7 / 2 + 0.3 * 3 / 4, -1 / 2),
            id="one_of_two",
        ),
        pytest.param(
            (CAT, ZEBRA), (CAT,), (1, 1, 1 / 2, 1, 2 / 3, 0.7 + 0.3 * 3 / 4, -1 / 2), id="absent_label_elsewhere"
        ),
        pytest.param(
            (CAT, ZEBRA_ON_CAT),  # NMS-AP keeps the last of the two
            (CAT,),
            (1, 1, 1 / 2, 0, 2 / 3, 0.7 + 0.3 * 3 / 4, -1 / 2),
            id="absent_label_at_the_same_place",
        ),
        pytest.param(
            (CAT,) + (ZEBRA,) * 23,
            (CAT,),
            (1, 1, 1 / 24, 1, 2 / 25, 0.7 + 0.3 * (1 + 1 / 24) / 2, -23 / 24),
            id="everything_listed",
        ),
        pytest.param((DOG_ON_CAT,), (CAT,), (0, 0, 0, 0, 0, 0.3, 0), id="wrong_label"),
        pytest.param(
            (ROUGH_CAT, CAT),  # the first takes the box at three thresholds, the second at seven, as second attempt
            (CAT,),
            (0.3 + 0.7 / 2, 1, (0.3 + 0.7 / 2) / 2, 1, 2 / 3, 0.7 + 0.3 * 3 / 4, -1 / 2),
            id="two_attempts",
        ),
        pytest.param((), (), (1, 1, 1, 1, 1, 1, 0), id="none_and_none"),
        pytest.param((CAT,), (), (0, 0, 0, 0, 0, 0, -1), id="nothing_there"),
        pytest.param((), (CAT,), (0, 0, 0, 0, 0, 0, -1), id="nothing_found"),
        pytest.param(None, (CAT,), (0, 0, 0, 0, 0, 0, -1), id="nothing_parsed"),
        pytest.param(None, (), (0, 0, 0, 0, 0, 0, -1), id="nothing_parsed_is_not_none"),
    ],
)
def test_by_hand(value, gold, expected):
    rewards = {name: REWARDS[name](_given(value, gold)) for name in NAMES}
    assert rewards == pytest.approx(dict(zip(NAMES, expected, strict=True)), abs=1e-12)


@pytest.mark.parametrize(
    ("found", "gold", "right"),
    [
        pytest.param("ＣＡＴ", "CAT", True, id="full_width"),
        pytest.param("cafe\u0301", "caf\u00e9", True, id="decomposed"),
        pytest.param("bird’s  nest", "bird's nest", True, id="apostrophe_and_white_space"),
        pytest.param("Cat", "cat", False, id="case"),
        pytest.param("cafe", "caf\u00e9", False, id="accent"),
        pytest.param("①", "1", False, id="circled_digit"),
    ],
)
def test_labels_are_compared_in_their_normal_form(found, gold, right):
    value, there = (LabelledBox(found, CAT.box),), (LabelledBox(gold, CAT.box),)
    for name in ("map", "ap50", "odlength", "set_f1"):
        assert REWARDS[name](_given(value, there)) == right
    metrics = Ovd().metrics(value, there)
    assert [metrics[name] for name in ("map", "recall_iou50", "label_precision", "label_recall")] == [right] * 4


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("found", [(CAT,), (ROUGH_CAT, CAT), (ZEBRA, CAT, DOG), (), None])
def test_boxes_without_labels_are_of_one_label(name, found):
    gold = (CAT, DOG)
    unlabelled = [None if side is None else tuple(item.box for item in side) for side in (found, gold)]
    alike = [None if side is None else tuple(LabelledBox("it", item.box) for item in side) for side in (found, gold)]
    assert REWARDS[name](_given(*unlabelled)) == REWARDS[name](_given(*alike))


@pytest.mark.parametrize(
    ("value", "options", "expected"),
    [
        pytest.param((ROUGH_CAT,), {}, 0.7 * 0.62 + 0.3, id="default"),
        pytest.param((ROUGH_CAT,), {"at": 0.62}, 0.7 * 0.62 + 0.3, id="exactly_near_enough"),
        pytest.param((ROUGH_CAT,), {"at": 0.63}, 0.0, id="not_near_enough"),
        pytest.param((ROUGH_CAT,), {"position": 1, "completeness": 0}, 0.62, id="position_alone"),
        pytest.param((DOG_ON_CAT,), {"label": 0.5}, 0.3 / 1.5, id="label_wrong"),
        pytest.param((ROUGH_CAT,), {"label": 0.5}, (0.7 * 0.62 + 0.5 + 0.3) / 1.5, id="label_right"),
    ],
)
def test_options_of_weighted_sum(value, options, expected):
    assert weighted_sum_reward(_given(value, (CAT,)), **options) == pytest.approx(expected, abs=1e-12)


def test_weighted_sum_pairs_the_greatest_overlap_first():
    upper, lower = CAT, LabelledBox("cat", (0.0, 4.0, 10.0, 14.0))
    first = LabelledBox("cat", (0.0, 1.0, 10.0, 11.0))  # IoU 9/11 with the upper, 7/13 with the lower
    second = LabelledBox("cat", (0.0, -2.0, 10.0, 8.0))  # IoU 8/12 with the upper, 4/16 with the lower
    given = _given((second, first), (upper, lower))
    assert weighted_sum_reward(given) == pytest.approx(0.7 * (9 / 11) / 2 + 0.3 * (1 / 2 + 1 / 2) / 2)
    assert set_f1_reward(given) == 1.0  # the optimal pairs: first to the lower, second to the upper


def test_set_f1_at_another_threshold():
    given = _given((ROUGH_CAT,), (CAT,))
    assert [set_f1_reward(given, at=at) for at in (0.5, 0.62, 0.63)] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        pytest.param("set_f1", {"at": 0}, "at is 0; wanted 0 < at ≤ 1", id="at_zero"),
        pytest.param("weighted_sum", {"at": 50}, "at is 50; wanted 0 < at ≤ 1", id="at_percent"),
        pytest.param("weighted_sum", {"position": -1}, r"weights is \(-1, 0.0, 0.3\); wanted none < 0", id="negative"),
        pytest.param("weighted_sum", {"position": 0, "completeness": 0}, "weights is .* one > 0", id="all_zero"),
    ],
)
def test_options_out_of_range(name, options, message):
    with pytest.raises(ConfigError, match=f'^reward "{name}": {message}'):
        REWARDS[name](_given(None, ()), **options)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gold", ["cat", (0.0, 0.0, 1.0, 1.0), ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)), None])
def test_a_gold_answer_of_another_kind_names_the_record(name, gold):
    with pytest.raises(DataError, match=rf'^f\.jsonl:7: reward "{name}" compares sets of boxes, but '):
        REWARDS[name](_given(None, gold))


def test_names_of_the_original_are_known():
    assert REWARDS["od_ap"] is map_reward
    assert REWARDS["od_ap50"] is ap50_reward
    assert REWARDS["od_length"] is REWARDS["odLength"] is odlength_reward


# ---- properties ----------------------------------------------------------------------------------------------------

box = st.tuples(*[st.integers(0, 12).map(float)] * 4).map(order_corners)
objects = st.lists(st.builds(LabelledBox, st.sampled_from(["cat", "dog", "zebra"]), box), max_size=7).map(tuple)
FAR = LabelledBox("cat", (100.0, 100.0, 110.0, 110.0))


def _iou(item, other):
    return REWARDS["iou"](_given(item.box, other.box))


@settings(deadline=None)
@given(value=objects, gold=objects)
def test_bounded(value, gold):
    for name in NAMES:
        least = -1.0 if name == "count_penalty" else 0.0
        assert least <= REWARDS[name](_given(value, gold)) <= 1.0 + least, name
        assert REWARDS[name](_given(None, gold)) == least, name


@settings(deadline=None)
@given(objects.filter(lambda items: all(i.box[0] < i.box[2] and i.box[1] < i.box[3] for i in items)))
def test_the_gold_answer_is_worth_the_most(gold):
    rewards = {name: REWARDS[name](_given(gold, gold)) for name in NAMES}
    if any(_iou(a, b) > 0.5 for a, b in combinations(gold, 2)):
        rewards["nms_ap"] = 1.0  # of two objects at one place it may keep one: OVDEval's own rule
    assert rewards == pytest.approx({name: 0.0 if name == "count_penalty" else 1.0 for name in NAMES}, abs=1e-12)


@settings(deadline=None)
@given(value=objects, gold=objects, seed=st.integers(0, 99))
def test_order_means_nothing_and_neither_does_who_is_who(value, gold, seed):
    rng = random.Random(seed)
    shuffled = tuple(rng.sample(value, len(value))), tuple(rng.sample(gold, len(gold)))
    for reward in (set_f1_reward, count_penalty):
        assert reward(_given(*shuffled)) == reward(_given(gold, value)) == reward(_given(value, gold))


@pytest.mark.parametrize("seed", range(20))
def test_order_means_nothing_to_weighted_sum_where_no_two_overlaps_are_equal(seed):
    rng = random.Random(seed)
    gold = [LabelledBox(rng.choice("ab"), (x, 0.0, x + 10, 10.0)) for x in (rng.uniform(0, 40) for _ in range(6))]
    found = [
        LabelledBox(rng.choice("ab"), tuple(edge + rng.gauss(0, 1) for edge in item.box)) for item in gold for _ in "12"
    ]
    expected = weighted_sum_reward(_given(tuple(found), tuple(gold)))
    assert 0 < expected < 1
    rng.shuffle(found)
    rng.shuffle(gold)
    assert weighted_sum_reward(_given(tuple(found), tuple(gold))) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("answer", list(permutations([DOG_ON_CAT, CAT, ZEBRA_ON_CAT])))
def test_weighted_sum_prefers_the_right_label_of_equal_boxes(answer):
    assert weighted_sum_reward(_given(answer, (CAT,)), position=1.0, completeness=0.0) == 1.0


@pytest.mark.parametrize(
    ("name", "early", "late"),
    [
        pytest.param("map", 1.0, 1 / 2, id="map"),
        pytest.param("ap50", 1.0, 1 / 2, id="ap50"),
        pytest.param("odlength", 1 / 2, 1 / 4, id="odlength"),
        pytest.param("nms_ap", 1.0, 1 / 2, id="nms_ap"),
    ],
)
def test_order_is_certainty_to_average_precision(name, early, late):
    """Boxes carry no scores, so the first written counts as the surest: by design, as in COCO."""
    assert REWARDS[name](_given((CAT, FAR), (CAT,))) == early
    assert REWARDS[name](_given((FAR, CAT), (CAT,))) == late


@settings(deadline=None)
@given(value=objects, gold=objects.filter(len), surplus=st.integers(1, 20))
def test_a_box_on_nothing_never_pays(value, gold, surplus):
    before, after = ({n: REWARDS[n](_given(v, gold)) for n in NAMES} for v in (value, value + (FAR,) * surplus))
    for name in ("map", "ap50", "nms_ap"):
        assert after[name] == pytest.approx(before[name], abs=1e-12), "free: the hack"
    for name in ("odlength", "set_f1", "weighted_sum"):
        costs = before[name] > 0 and len(value) >= len(gold)
        assert after[name] < before[name] if costs else after[name] <= before[name] + 1e-12, name


def test_count_is_all_that_count_penalty_sees():
    assert count_penalty(_given((ZEBRA, FAR), (CAT, DOG))) == 0.0
    penalties = [count_penalty(_given((FAR,) * n, (CAT, DOG))) for n in (1, 2, 4, 20)]
    assert penalties == pytest.approx([-1 / 2, 0, -1 / 2, -9 / 10])


# ---- the original --------------------------------------------------------------------------------------------------

REFERENCE = Path(__file__).resolve().parents[3] / "shared/reference/rewards_golden.jsonl"


@pytest.mark.skipif(not REFERENCE.exists(), reason="the original's reward values are not here")
def test_weighted_sum_equals_the_original():
    """On answers that both read: in answer tags, with a fence, and no item without a box."""
    compared = 0
    for case in map(json.loads, REFERENCE.read_text(encoding="utf-8").splitlines()):
        answer = split_tags(case["completion"]).answer or ""
        if case["reward"] != "weighted_sum" or "```json" not in answer or not case["solution"]:
            continue
        found, there = parse_labelled_boxes(answer), parse_labelled_boxes(json.dumps(case["solution"]))
        if isinstance(found, Parsed) and isinstance(there, Parsed):
            score = weighted_sum_reward(_given(found.value, there.value))
            assert score == pytest.approx(case["official"], abs=1e-6), case
            compared += 1
    assert compared > 50
