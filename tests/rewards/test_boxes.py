import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_r1.errors import ConfigError, DataError
from vlm_r1.geometry.boxes import order_corners
from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards import REWARDS
from vlm_r1.rewards.base import RewardInput
from vlm_r1.rewards.boxes import giou_reward, iou_power_reward, iou_reward, iou_threshold_reward
from vlm_r1.types import Record, Thinking

RECORD = Record(
    id="1", task="rec", problem="<image>the dog", images=("a.png",), answer=[0, 0, 10, 10], source="f.jsonl:7"
)
GOLD = (0.0, 0.0, 10.0, 10.0)
NAMES = ["iou", "iou_threshold", "iou_power", "giou", "diou", "ciou"]
V = (2 / math.pi * (math.atan(2) - math.atan(1))) ** 2  # of a box twice as wide as high and a square


def _given(value, gold=GOLD):
    return RewardInput("", split_tags(""), Thinking.REQUIRED, value, gold, (), RECORD)


@pytest.mark.parametrize(
    ("value", "expected"),  # of iou, giou, diou, ciou; the last three before they are graded
    [
        pytest.param(GOLD, (1, 1, 1, 1), id="equal"),
        pytest.param(
            (0.0, 0.0, 10.0, 5.0),
            (1 / 2, 1 / 2, 1 / 2 - 2.5**2 / 200, 1 / 2 - 2.5**2 / 200 - V * V / (1 - 1 / 2 + V)),
            id="half",
        ),
        pytest.param((0.0, 0.0, 20.0, 20.0), (1 / 4, 1 / 4, 1 / 4 - 50 / 800, 1 / 4 - 50 / 800), id="four_times"),
        pytest.param((-45.0, -45.0, 55.0, 55.0), (1 / 100, 1 / 100, 1 / 100, 1 / 100), id="the_whole_image"),
        pytest.param((10.0, 0.0, 20.0, 10.0), (0, 0, -100 / 500, -100 / 500), id="touching"),
        pytest.param(
            (90.0, 0.0, 100.0, 10.0), (0, -800 / 1000, -(90**2) / 10100, -(90**2) / 10100), id="far_to_the_right"
        ),
        pytest.param((5.0, 5.0, 5.0, 5.0), (0, 0, 0, -(0.25**2) / 1.25), id="a_point_at_the_centre"),
    ],
)
def test_by_hand(value, expected):
    overlap, *measures = expected
    assert iou_reward(_given(value)) == pytest.approx(overlap, abs=1e-15)
    assert iou_power_reward(_given(value)) == pytest.approx(overlap**2, abs=1e-15)
    for name, g in zip(["giou", "diou", "ciou"], measures, strict=True):
        graded = 0.1 + 0.9 * g if g >= 0 else 0.1 * (1 + g)
        assert REWARDS[name](_given(value)) == pytest.approx(graded, abs=1e-12), name


@pytest.mark.parametrize("name", NAMES)
def test_nothing_parsed_is_worth_nothing(name):
    assert REWARDS[name](_given(None)) == 0.0


@pytest.mark.parametrize(
    ("height", "at", "expected"),
    [
        pytest.param(5.0, 0.5, 0.0, id="exactly_at_it_is_not_above_it"),
        pytest.param(5.1, 0.5, 1.0, id="above"),
        pytest.param(5.1, 0.75, 0.0, id="stricter"),
        pytest.param(0.1, 0.0, 1.0, id="any_overlap"),
        pytest.param(0.0, 0.0, 0.0, id="no_overlap"),
    ],
)
def test_threshold(height, at, expected):
    assert iou_threshold_reward(_given((0.0, 0.0, 10.0, height)), at=at) == expected


def test_power():
    half = _given((0.0, 0.0, 10.0, 5.0))
    assert iou_power_reward(half, exponent=3) == 1 / 8
    assert iou_power_reward(half, exponent=0.5) == math.sqrt(1 / 2)


@pytest.mark.parametrize(
    ("near", "touching", "far", "half"),
    [
        pytest.param(0.0, 0.0, 0.0, 0.5, id="only_overlap_counts"),
        pytest.param(0.5, 0.5, (1 - 0.8) / 2, (1 + 0.5) / 2, id="the_usual_scale"),
        pytest.param(0.1, 0.1, 0.1 * 0.2, 0.1 + 0.9 * 0.5, id="the_default"),
    ],
)
def test_near_is_what_a_miss_can_earn(near, touching, far, half):
    assert giou_reward(_given((10.0, 0.0, 20.0, 10.0)), near=near) == pytest.approx(touching)
    assert giou_reward(_given((90.0, 0.0, 100.0, 10.0)), near=near) == pytest.approx(far)
    assert giou_reward(_given((0.0, 0.0, 10.0, 5.0)), near=near) == pytest.approx(half)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        pytest.param("iou_threshold", {"at": 1.0}, "at is 1.0; wanted 0 ≤ at < 1", id="never"),
        pytest.param("iou_threshold", {"at": 50}, "at is 50; wanted 0 ≤ at < 1", id="percent"),
        pytest.param("iou_power", {"exponent": 0}, "exponent is 0; wanted exponent > 0", id="power_zero"),
        pytest.param("iou_power", {"exponent": math.inf}, "exponent is inf", id="power_infinite"),
        *(pytest.param(n, {"near": 2}, "near is 2; wanted 0 ≤ near ≤ 1", id=n) for n in ("giou", "diou", "ciou")),
    ],
)
def test_options_out_of_range(name, options, message):
    with pytest.raises(ConfigError, match=f'^reward "{name}": {message}'):
        REWARDS[name](_given(None), **options)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [None, 3])
def test_a_gold_answer_that_is_no_box_names_the_record(name, value):
    with pytest.raises(DataError, match=rf'^f\.jsonl:7: reward "{name}" compares boxes, but .* is 3; choose another'):
        REWARDS[name](_given(value, 3))


@pytest.mark.parametrize("name", NAMES)
def test_a_point_is_no_box(name):
    with pytest.raises(DataError, match=rf'^f\.jsonl:7: reward "{name}" compares boxes with boxes, and asked for is'):
        REWARDS[name](_given((5.0, 5.0)))


# ---- properties ----------------------------------------------------------------------------------------------------

coordinate = st.one_of(st.integers(-1000, 1000).map(float), st.floats(-1e6, 1e6))
any_box = st.tuples(coordinate, coordinate, coordinate, coordinate).map(order_corners)
overlapping_box = st.tuples(*[st.integers(0, 12).map(float)] * 4).map(order_corners)
side = st.integers(1, 200).map(float)


@settings(deadline=None)
@given(value=any_box | overlapping_box, gold=any_box | overlapping_box)
def test_bounded_and_symmetric(value, gold):
    for name in NAMES:
        reward = REWARDS[name](_given(value, gold))
        assert 0.0 <= reward <= 1.0, name
        assert REWARDS[name](_given(gold, value)) == pytest.approx(reward, abs=1e-9), name


@settings(deadline=None)
@given(
    wh=st.tuples(side, side),
    away=st.tuples(st.integers(-400, 400), st.integers(-400, 400)),
    steps=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_box_moved_straight_to_the_gold_box_never_loses(wh, away, steps):
    nearer, farther = (
        (step * away[0], step * away[1], step * away[0] + wh[0], step * away[1] + wh[1]) for step in sorted(steps)
    )
    gold = (0.0, 0.0, *wh)
    for name in NAMES:
        assert REWARDS[name](_given(nearer, gold)) >= REWARDS[name](_given(farther, gold)) - 1e-9, name


@settings(deadline=None)
@given(value=overlapping_box, other=overlapping_box, gold=overlapping_box)
def test_what_is_made_of_iou_alone_rises_with_it(value, other, gold):
    worse, better = sorted([value, other], key=lambda box: iou_reward(_given(box, gold)))
    for name in ("iou_threshold", "iou_power"):
        assert REWARDS[name](_given(worse, gold)) <= REWARDS[name](_given(better, gold))


@pytest.mark.parametrize("name", ["giou", "diou", "ciou"])
def test_misses_are_told_apart(name):
    """Where IoU is 0 for all: what these rewards are for."""
    rewards = [REWARDS[name](_given((x, 0.0, x + 10.0, 10.0))) for x in (11.0, 30.0, 100.0, 1000.0)]
    assert rewards == sorted(set(rewards), reverse=True)
    assert 0 < rewards[-1] < rewards[0] < 0.1
