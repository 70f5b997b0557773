import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_r1.geometry.boxes import box_iou, clip_box, iou, order_corners

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
    assert box_iou([a], [b]).tolist() == [[pytest.approx(expected, abs=1e-15)]]


@settings(deadline=None)
@given(box, box)
def test_iou_is_symmetric_and_bounded(a, b):
    assert 0.0 <= iou(a, b) <= 1.0
    assert iou(a, b) == iou(b, a)


@settings(deadline=None)
@given(st.lists(box, max_size=4), st.lists(box, max_size=4))
def test_all_pairs_equal_single_pairs(boxes_N4, boxes_M4):
    ious_NM = box_iou(boxes_N4, boxes_M4)
    assert ious_NM.shape == (len(boxes_N4), len(boxes_M4))
    assert ious_NM.dtype == np.float64
    assert ious_NM.tolist() == [[iou(a, b) for b in boxes_M4] for a in boxes_N4]


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
