import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testing_geometry import contains, distance_to_box
from vlm_r1.geometry.boxes import (
    area,
    box_areas,
    centre,
    ciou,
    clip_box,
    diou,
    giou,
    in_polygon,
    iou,
    order_corners,
    paired_iou,
)

coordinate = st.floats(-1e6, 1e6)
box = st.tuples(coordinate, coordinate, coordinate, coordinate).map(order_corners)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        pytest.param((0, 0, 10, 10), (0, 0, 10, 10), 1.0, id="equal"),
        pytest.param((0, 0, 10, 10), (5, 0, 15, 10), 50 / (100 + 100 - 50), id="half_shifted"),
        pytest.param((0, 0, 10, 10), (2, 3, 6, 8), 20 / 100, id="nested"),
        pytest.param((0, 0, 4, 4), (3, 3, 7, 7), 1 / (16 + 16 - 1), id="overlap_of_one_pixel_counts"),
        pytest.param((0, 0, 10, 10), (10, 0, 20, 10), 0.0, id="touching_edges"),
        pytest.param((0, 0, 10, 10), (10, 10, 20, 20), 0.0, id="touching_corners"),
        pytest.param((0, 0, 1, 1), (5, 5, 6, 6), 0.0, id="apart"),
        pytest.param((0, 0, 1, 9), (5, 0, 6, 9), 0.0, id="apart_in_x_only"),
        pytest.param((0, 0, 10, 10), (-10, 0, 10, 10), 100 / 200, id="outside_the_image_costs"),
        pytest.param((3, 3, 3, 3), (3, 3, 3, 3), 0.0, id="two_points"),
        pytest.param((0, 5, 10, 5), (0, 0, 10, 10), 0.0, id="line_in_a_box"),
        pytest.param((0, 0, 0.5, 0.5), (0, 0, 0.25, 0.5), 0.125 / 0.25, id="smaller_than_a_pixel"),
    ],
)
def test_iou_by_hand(a, b, expected):
    assert iou(a, b) == pytest.approx(expected, abs=1e-15)
    assert paired_iou([a], [b]).tolist() == [pytest.approx(expected, abs=1e-15)]


@settings(deadline=None)
@given(box, box)
def test_iou_is_symmetric_and_bounded(a, b):
    assert 0.0 <= iou(a, b) <= 1.0
    assert iou(a, b) == iou(b, a)


@settings(deadline=None)
@given(st.lists(st.tuples(box, box), max_size=8))
def test_pairs_as_arrays_equal_single_pairs(pairs):
    ious_P = paired_iou([a for a, _ in pairs], [b for _, b in pairs])
    assert ious_P.shape == (len(pairs),)
    assert ious_P.dtype == np.float64
    assert ious_P.tolist() == [iou(a, b) for a, b in pairs]


@settings(deadline=None)
@given(
    st.tuples(*[st.integers(0, 100)] * 4), st.tuples(*[st.integers(0, 50)] * 4), st.tuples(*[st.integers(0, 50)] * 4)
)
def test_iou_falls_as_a_box_grows_beyond_the_gold(corners, grow, grow_more):
    x1, y1, x2, y2 = order_corners(corners)
    gold = (x1, y1, x2 + 1, y2 + 1)
    inner = _grown(gold, grow)
    outer = _grown(inner, grow_more)
    assert iou(gold, outer) <= iou(gold, inner)
    assert iou(gold, outer) < iou(gold, inner) or outer == inner


def _grown(b, by):
    return (b[0] - by[0], b[1] - by[1], b[2] + by[2], b[3] + by[3])


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param((1, 2, 3, 4), (1, 2, 3, 4), id="in_order"),
        pytest.param((3, 4, 1, 2), (1, 2, 3, 4), id="both_swapped"),
        pytest.param((3, 2, 1, 4), (1, 2, 3, 4), id="x_swapped"),
        pytest.param((1, 4, 3, 2), (1, 2, 3, 4), id="y_swapped"),
    ],
)
def test_order_corners(written, expected):
    assert order_corners(written) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param((10, 20, 30, 40), (10, 20, 30, 40), id="inside"),
        pytest.param((-10, -20, 900, 900), (0, 0, 640, 480), id="larger_than_the_image"),
        pytest.param((700, 10, 800, 20), (640, 10, 640, 20), id="beside_the_image_has_no_area"),
    ],
)
def test_clip_box(written, expected):
    assert clip_box(written, (640, 480)) == expected


@pytest.mark.parametrize(
    ("box", "other", "crowd", "expected"),
    [
        pytest.param((0, 0, 10, 10), (5, 0, 15, 10), False, 50 / 150, id="no_crowd"),
        pytest.param((0, 0, 10, 10), (5, 0, 15, 10), True, 50 / 100, id="half_in_the_crowd"),
        pytest.param((0, 0, 10, 10), (-50, -50, 50, 50), True, 1.0, id="within_the_crowd"),
        pytest.param((-50, -50, 50, 50), (0, 0, 10, 10), True, 100 / 10_000, id="round_the_crowd"),
        pytest.param((3, 3, 3, 3), (0, 0, 10, 10), True, 0.0, id="point_in_the_crowd"),
    ],
)
def test_paired_iou(box, other, crowd, expected):
    assert paired_iou([box], [other], np.array([crowd])).tolist() == [expected]


@settings(deadline=None)
@given(st.lists(st.tuples(box, box), max_size=5))
def test_pairs_equal_single_pairs(pairs):
    firsts, seconds = [a for a, _ in pairs], [b for _, b in pairs]
    assert paired_iou(firsts, seconds).tolist() == [iou(a, b) for a, b in pairs]
    assert box_areas(firsts).tolist() == [area(a) for a in firsts]


UNIT = (0, 0, 1, 1)


@pytest.mark.parametrize(
    ("a", "b", "in_giou", "in_diou", "in_ciou"),
    [
        pytest.param(UNIT, UNIT, 1, 1, 1, id="equal"),
        # hull 3 × 1, union 2; centres 2 apart, diagonal² 10; same shape
        pytest.param(UNIT, (2, 0, 3, 1), -1 / 3, -4 / 10, -4 / 10, id="apart"),
        pytest.param(UNIT, (1, 0, 2, 1), 0, -1 / 5, -1 / 5, id="touching"),
        # inside: the hull is the outer box; centres 3 apart on each axis, diagonal² 128
        pytest.param((0, 0, 8, 8), (0, 0, 2, 2), 4 / 64, 4 / 64 - 18 / 128, 4 / 64 - 18 / 128, id="nested"),
        # same centre, IoU 1/3, hull 2 × 2, union 3; v = (2/π · (atan 2 − atan 1/2))², α = v / (1 − 1/3 + v)
        pytest.param(
            (0, 0.5, 2, 1.5),
            (0.5, 0, 1.5, 2),
            1 / 3 - 1 / 4,
            1 / 3,
            1 / 3 - (v := (2 / math.pi * (math.atan(2) - math.atan(1 / 2))) ** 2) ** 2 / (2 / 3 + v),
            id="other_shape",
        ),
        pytest.param((0, 0, 0, 0), (3, 4, 3, 4), -1, -1, -1, id="two_points"),
        pytest.param((3, 4, 3, 4), (3, 4, 3, 4), 0, 0, 0, id="one_point_twice"),
        pytest.param((0, 0, 4, 0), (6, 0, 10, 0), 0, -36 / 100, -36 / 100, id="on_one_line"),
        # a point in the middle: IoU 0; hull 4, union 4; angles 0 and π/4: v = 1/4, v² / (1 + v) = 1/20
        pytest.param((0, 0, 2, 2), (1, 1, 1, 1), 0, 0, -1 / 20, id="point_in_a_box"),
    ],
)
def test_kin_of_iou_by_hand(a, b, in_giou, in_diou, in_ciou):
    assert (giou(a, b), diou(a, b), ciou(a, b)) == pytest.approx((in_giou, in_diou, in_ciou), abs=1e-12)


@settings(deadline=None)
@given(box, box)
def test_kin_of_iou_are_symmetric_bounded_and_below_it(a, b):
    for kin, least in [(giou, -1.0), (diou, -1.0), (ciou, -1.5)]:
        assert least <= kin(a, b) <= iou(a, b)
        assert kin(a, b) == kin(b, a)
    assert ciou(a, b) <= diou(a, b)


@settings(deadline=None)
@given(st.integers(2, 1000), st.integers(1, 1000))
def test_kin_of_iou_fall_as_boxes_move_apart(near, further):
    for kin in (giou, diou, ciou):
        assert kin(UNIT, (near + further, 0, near + further + 1, 1)) < kin(UNIT, (near, 0, near + 1, 1)) < 0


def test_area_and_centre():
    assert area((10, 20, 30, 25)) == 20 * 5
    assert centre((10, 20, 30, 25)) == (20, 22.5)


@pytest.mark.parametrize(
    ("point", "inside", "distance"),
    [
        pytest.param((5, 5), True, 0, id="inside"),
        pytest.param((10, 5), True, 0, id="edge"),
        pytest.param((0, 0), True, 0, id="corner"),
        pytest.param((12, 5), False, 2, id="right"),
        pytest.param((5, -7), False, 7, id="above"),
        pytest.param((13, 14), False, 5, id="beyond_a_corner"),  # 3² + 4² = 5²
        pytest.param((-3, 14), False, 5, id="beyond_another_corner"),
    ],
)
def test_points_and_a_box(point, inside, distance):
    square = (0, 0, 10, 10)
    assert contains(square, point) is inside
    assert distance_to_box(point, square) == distance
    assert in_polygon(point, _outline(square)) is inside


STAR = [(5, 0), (8, 10), (0, 4), (10, 4), (2, 10)]  # five points, joined so that the middle is wound round twice
ARROW = [(0, 0), (10, 5), (0, 10), (4, 5)]


@pytest.mark.parametrize(
    ("point", "polygon", "expected"),
    [
        pytest.param((2, 5), ARROW, False, id="in_the_notch"),
        pytest.param((4, 5), ARROW, True, id="notch_corner"),
        pytest.param((7, 5), ARROW, True, id="in_the_head"),
        pytest.param((-5, 5), ARROW, False, id="level_with_two_corners"),
        pytest.param((2, 1), ARROW, True, id="on_an_edge"),
        pytest.param((20, 10), ARROW, False, id="on_the_line_of_an_edge_but_beyond_it"),
        pytest.param((5, 6), STAR, False, id="wound_round_twice"),
        pytest.param((5, 2), STAR, True, id="in_a_point_of_the_star"),
        pytest.param((5, 5), [], False, id="no_corner"),
        pytest.param((5, 5), [(5, 5)], True, id="one_corner"),
        pytest.param((5, 6), [(5, 5)], False, id="beside_one_corner"),
        pytest.param((5, 5), [(0, 0), (10, 10)], True, id="on_a_segment"),
        pytest.param((5, 4), [(0, 0), (10, 10)], False, id="beside_a_segment"),
    ],
)
def test_in_polygon(point, polygon, expected):
    assert in_polygon(point, polygon) is expected
    assert in_polygon(point, polygon[::-1]) is expected
    assert in_polygon(point, [*polygon, *polygon[:1]]) is expected


whole_point = st.tuples(st.integers(-2, 12), st.integers(-2, 12))


@settings(deadline=None)
@given(whole_point, st.tuples(*[st.integers(0, 10)] * 4).map(order_corners), st.integers(0, 3))
def test_a_box_is_the_polygon_of_its_corners(point, box, first):
    outline = _outline(box)
    assert in_polygon(point, outline[first:] + outline[:first]) == contains(box, point)
    assert contains(box, point) == (distance_to_box(point, box) == 0)


def _outline(b):
    return [(b[0], b[1]), (b[2], b[1]), (b[2], b[3]), (b[0], b[3])]
