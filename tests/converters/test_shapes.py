"""Boxes around shapes, by hand and against a slow twin that walks round the shape."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_r1.converters.pictures import Unusable
from vlm_r1.converters.shapes import around, box_of, ellipse, rotated

NUMBERS = st.floats(-500, 500)
SIDES = st.floats(0, 500)


@pytest.mark.parametrize(
    ("degrees", "box"),
    [
        pytest.param(0, (0, 0, 4, 2), id="not turned"),
        pytest.param(90, (-2, 0, 0, 4), id="a quarter: (4, 2) goes to (-2, 4)"),
        pytest.param(180, (-4, -2, 0, 0), id="upside down"),
        pytest.param(-90, (0, -4, 2, 0), id="a quarter back: (4, 2) goes to (2, -4)"),
        pytest.param(450, (-2, 0, 0, 4), id="once round and a quarter"),
    ],
)
def test_quarter_turns_are_exact(degrees, box):
    assert rotated((0, 0, 4, 2), degrees, (0, 0)) == box


@given(NUMBERS, NUMBERS, SIDES, SIDES, st.floats(-720, 720))
def test_a_turned_box_is_as_complex_numbers_turn_it(x, y, width, height, degrees):
    """Multiplication by e^(iθ) turns anticlockwise where y grows upwards, so clockwise on a screen."""
    turn, pivot = complex(math.cos(math.radians(degrees)), math.sin(math.radians(degrees))), complex(3, 4)
    corners = [pivot + (complex(a, b) - pivot) * turn for a in (x, x + width) for b in (y, y + height)]
    expected = around((corner.real, corner.imag) for corner in corners)
    assert rotated((x, y, x + width, y + height), degrees, (3, 4)) == pytest.approx(expected, abs=1e-6)


@given(st.floats(0.1, 100), st.floats(0.1, 100), st.floats(-360, 360))
def test_an_ellipse_is_as_a_walk_round_it_finds(rx, ry, degrees):
    turn = complex(math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))
    walked = [complex(rx * math.cos(t), ry * math.sin(t)) * turn for t in (i * math.pi / 500 for i in range(1000))]
    expected = around((point.real, point.imag) for point in walked)
    assert ellipse((0, 0), (rx, ry), degrees) == pytest.approx(expected, abs=0.01 * max(rx, ry))


def test_corners_are_never_put_in_order():
    assert box_of([1, 2, 3, 2]) == (1, 2, 3, 2)
    assert box_of([1, 2, 0, 3]) == Unusable("of negative width or height")
    assert box_of(None) == Unusable("without the finite numbers of its shape")
