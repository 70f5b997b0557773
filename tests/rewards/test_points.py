import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testing_geometry import contains, distance_to_box
from vlm_r1.errors import ConfigError, DataError
from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards.base import RewardInput
from vlm_r1.rewards.points import point_distance, point_in_region
from vlm_r1.types import ImageFrame, Record, Thinking

RECORD = Record("1", "gui_click", "<image>OK", ("a.png",), [0, 0, 10, 10], source="f.jsonl:7")
FRAMES = (ImageFrame(original_wh=(640, 480), input_wh=(320, 240)),)  # diagonal: 800 of the original's pixels
BUTTON = (100.0, 100.0, 200.0, 140.0)
TRIANGLE = ((100.0, 100.0), (200.0, 100.0), (100.0, 200.0))


def _given(value, gold):
    return RewardInput("", split_tags(""), Thinking.REQUIRED, value, gold, FRAMES, RECORD)


@pytest.mark.parametrize(
    ("value", "gold", "distance_px"),
    [
        pytest.param((150.0, 120.0), BUTTON, 0, id="in_a_box"),
        pytest.param((200.0, 140.0), BUTTON, 0, id="on_its_corner"),
        pytest.param((230.0, 180.0), BUTTON, 50, id="30_right_and_40_below"),
        pytest.param((150.0, 180.0), BUTTON, 40, id="below"),
        pytest.param((120.0, 120.0), TRIANGLE, 0, id="in_a_polygon"),
        pytest.param((150.0, 150.0), TRIANGLE, 0, id="on_its_slope"),
        pytest.param((200.0, 200.0), TRIANGLE, 50 * math.sqrt(2), id="in_the_box_round_it_only"),
        pytest.param((97.0, 96.0), TRIANGLE, 5, id="nearest_to_a_corner"),
        pytest.param((140.0, 110.0, 160.0, 130.0), BUTTON, 0, id="a_box_by_its_centre"),
        pytest.param((0.0, 0.0, 640.0, 480.0), BUTTON, math.hypot(320 - 200, 240 - 140), id="the_whole_image"),
    ],
)
def test_by_hand(value, gold, distance_px):
    given = _given(value, gold)
    assert point_in_region(given) == (distance_px == 0)
    expected = 0.5 * math.exp(-distance_px / 80) if distance_px else 1.0  # a tenth of the diagonal
    assert point_distance(given) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("gold", [BUTTON, TRIANGLE])
def test_nothing_parsed_is_worth_nothing(gold):
    assert point_in_region(_given(None, gold)) == point_distance(_given(None, gold)) == 0.0


def test_options_of_distance():
    given = _given((150.0, 220.0), BUTTON)  # 80 below: a tenth of the diagonal
    assert point_distance(given, near=1.0) == pytest.approx(1 / math.e)
    assert point_distance(given, near=0.0) == 0.0
    assert point_distance(given, scale=0.2) == pytest.approx(0.5 / math.sqrt(math.e))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"scale": 0}, "scale is 0; wanted scale > 0", id="scale"),
        pytest.param({"near": -0.1}, "near is -0.1; wanted 0 ≤ near ≤ 1", id="near"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ConfigError, match=f'^reward "point_distance": {message}'):
        point_distance(_given(None, BUTTON), **options)


@pytest.mark.parametrize("function", [point_in_region, point_distance])
@pytest.mark.parametrize(
    "gold",
    [
        pytest.param("OK", id="a_text"),
        pytest.param(((0.0, 0.0), (1.0, 1.0)), id="two_corners"),
        pytest.param((BUTTON, BUTTON, BUTTON), id="boxes"),
        pytest.param((1.0, 2.0), id="a_point"),
        pytest.param((), id="nothing"),
    ],
)
def test_a_gold_answer_that_is_no_region_names_the_record(function, gold):
    with pytest.raises(DataError, match=rf'^f\.jsonl:7: reward "{function.__name__}" compares points with a region, '):
        function(_given((1.0, 2.0), gold))


# ---- properties ----------------------------------------------------------------------------------------------------

coordinate = st.one_of(st.integers(-50, 250).map(float), st.floats(-1e6, 1e6))
points = st.tuples(coordinate, coordinate)


@settings(deadline=None)
@given(points)
def test_a_box_is_the_polygon_of_its_corners(point):
    """The slow twin is faster here: geometry's own functions of a box."""
    given = _given(point, BUTTON)
    expected = 0.5 * math.exp(-distance_to_box(point, BUTTON) / 80) if not contains(BUTTON, point) else 1.0
    assert point_in_region(given) == contains(BUTTON, point)
    assert point_distance(given) == pytest.approx(expected, rel=1e-9)


@settings(deadline=None)
@given(points, st.sampled_from([BUTTON, TRIANGLE, ((0.0, 0.0), (9.0, 9.0), (9.0, 0.0), (0.0, 9.0))]))
def test_bounded_and_a_miss_is_worth_less_than_half_a_hit(point, gold):
    given = _given(point, gold)
    reward = point_distance(given)
    assert reward == 1.0 if point_in_region(given) else 0.0 <= reward <= 0.5


@settings(deadline=None)
@given(st.floats(0, 2 * math.pi), st.floats(0, 1000), st.floats(0, 1000), st.sampled_from([BUTTON, TRIANGLE]))
def test_a_point_moved_straight_away_never_gains(angle, first_px, second_px, gold):
    """From a point of the region, which is convex."""
    near, far = sorted([first_px, second_px])
    rewards = [
        point_distance(_given((110.0 + step * math.cos(angle), 110.0 + step * math.sin(angle)), gold))
        for step in (near, far)
    ]
    assert rewards[0] >= rewards[1] - 1e-12
