import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_r1.geometry.boxes import iou, order_corners
from vlm_r1.geometry.frames import (
    format_coordinates,
    from_original,
    point_from_original,
    point_to_original,
    to_original,
)
from vlm_r1.types import BoxFormat, ImageFrame

FRAME = ImageFrame(original_wh=(640, 480), input_wh=(320, 960))  # half as wide, twice as high

size = st.integers(1, 4000)
frames = st.builds(ImageFrame, original_wh=st.tuples(size, size), input_wh=st.tuples(size, size))
formats = st.sampled_from(BoxFormat)
coordinate = st.floats(-5000, 5000)


@pytest.mark.parametrize(
    ("fmt", "written", "original"),
    [
        pytest.param(BoxFormat.ORIGINAL_PIXELS, (10, 20, 110, 220), (10, 20, 110, 220), id="original_pixels"),
        pytest.param(BoxFormat.INPUT_PIXELS, (5, 40, 55, 440), (10, 20, 110, 220), id="input_pixels"),
        pytest.param(BoxFormat.NORM_1000, (250, 500, 500, 1000), (160, 240, 320, 480), id="norm_1000"),
        pytest.param(BoxFormat.NORM_1000_YX, (500, 250, 1000, 500), (160, 240, 320, 480), id="norm_1000_y_first"),
        pytest.param(BoxFormat.NORM_1, (0.25, 0.5, 0.5, 1), (160, 240, 320, 480), id="norm_1"),
        pytest.param(BoxFormat.NORM_1000, (-100, 0, 1100, 1000), (-64, 0, 704, 480), id="outside_stays_outside"),
    ],
)
def test_conversion_by_hand(fmt, written, original):
    assert to_original(written, FRAME, fmt) == original
    assert from_original(original, FRAME, fmt) == written


@settings(deadline=None)
@given(st.tuples(*[coordinate] * 4), frames, formats)
def test_round_trip(box, frame, fmt):
    assert to_original(from_original(box, frame, fmt), frame, fmt) == pytest.approx(box, rel=1e-12, abs=1e-12)
    assert from_original(to_original(box, frame, fmt), frame, fmt) == pytest.approx(box, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(
    ("fmt", "written", "original"),
    [
        pytest.param(BoxFormat.ORIGINAL_PIXELS, (10, 20), (10, 20), id="original_pixels"),
        pytest.param(BoxFormat.INPUT_PIXELS, (5, 40), (10, 20), id="input_pixels"),
        pytest.param(BoxFormat.NORM_1000, (250, 500), (160, 240), id="norm_1000"),
        pytest.param(BoxFormat.NORM_1000_YX, (500, 250), (160, 240), id="norm_1000_y_first"),
    ],
)
def test_points_by_hand(fmt, written, original):
    assert point_to_original(written, FRAME, fmt) == original
    assert point_from_original(original, FRAME, fmt) == written
    assert format_coordinates(point_from_original(original, FRAME, fmt), fmt) == list(written)


@settings(deadline=None)
@given(st.tuples(coordinate, coordinate), frames, formats)
def test_points_round_trip(point, frame, fmt):
    assert point_to_original(point_from_original(point, frame, fmt), frame, fmt) == pytest.approx(
        point, rel=1e-12, abs=1e-12
    )


@pytest.mark.parametrize(
    ("fmt", "box", "expected"),
    [
        pytest.param(BoxFormat.INPUT_PIXELS, (9.6, 20.4, 109.7, 220.2), [10, 20, 110, 220], id="nearest"),
        pytest.param(BoxFormat.INPUT_PIXELS, (-0.6, 0.0, 1500.2, 2000.0), [0, 0, 1500, 2000], id="pixels_at_least_0"),
        pytest.param(BoxFormat.NORM_1000, (-1.2, 3.0, 1000.9, 5.0), [0, 3, 1000, 5], id="normalised_at_most_1000"),
        pytest.param(BoxFormat.NORM_1, (-0.1, 0.1234, 0.1236, 1.01), [0.0, 0.123, 0.124, 1.0], id="fractions"),
        pytest.param(BoxFormat.NORM_1000_YX, (1.0, 3.0, 5.0, 1002.0), [1, 3, 5, 1000], id="y_first_at_most_1000"),
    ],
)
def test_format_coordinates(fmt, box, expected):
    assert format_coordinates(box, fmt) == expected


@settings(deadline=None)
@given(st.tuples(*[st.floats(0, 900)] * 2), st.tuples(*[st.floats(4, 100)] * 2), formats)
def test_rounding_keeps_boxes_of_four_units_above_iou_one_half(corner, wh, fmt):
    unit = 0.001 if fmt is BoxFormat.NORM_1 else 1.0
    box = (corner[0] * unit, corner[1] * unit, (corner[0] + wh[0]) * unit, (corner[1] + wh[1]) * unit)
    written = order_corners(tuple(map(float, format_coordinates(box, fmt))))
    assert iou(box, written) >= 9 / 16 - 1e-9  # (4 - 1)² / 4²
