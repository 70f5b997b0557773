"""Boxes on a picture lie where they should, to the pixel, and nothing outside of it does harm."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageColor

from vlm_r1.questions.drawing import COLOURS, Mark, draw_marks
from vlm_r1.report.drawing import MAX_BOXES


def drawn(*marks: Mark, size: tuple[int, int] = (100, 80)) -> np.ndarray:
    return np.asarray(draw_marks(Image.new("RGB", size, "white"), marks))


def where(pixels: np.ndarray, colour: int = 0) -> tuple[int, int, int, int]:
    """The smallest box, in whole pixels, around all of a colour."""
    ys, xs = np.nonzero((pixels == ImageColor.getrgb(COLOURS[colour])).all(-1))
    return int(xs.min()), int(ys.min()), int(xs.max()), int(ys.max())


def test_a_box_is_a_frame() -> None:
    pixels = drawn(Mark((10, 20, 60, 70)))
    assert where(pixels) == (10, 20, 60, 70)
    assert tuple(pixels[45, 35]) == (255, 255, 255), "it is not filled"
    assert tuple(pixels[20, 12]) == tuple(pixels[21, 12]) != tuple(pixels[22, 12]), "2 pixels thick"


def test_lines_grow_with_the_picture() -> None:
    pixels = drawn(Mark((100, 100, 900, 900)), size=(3200, 1000))  # 3200 / 320 = 10 pixels
    assert [tuple(pixels[y, 500]) == (255, 255, 255) for y in (99, 100, 109, 110)] == [True, False, False, True]


def test_a_point_is_a_disc_and_each_question_has_its_colour() -> None:
    pixels = drawn(Mark((50, 40, 50, 40), "", 1), Mark((0, 0, 5, 5)))
    x1, y1, x2, y2 = where(pixels, 1)
    assert ((x1 + x2) / 2, (y1 + y2) / 2) == (50, 40)
    assert where(pixels, 0) == (0, 0, 5, 5)


def test_boxes_outside_reach_the_edge() -> None:
    assert where(drawn(Mark((-1e9, 10, 1e300, 20)))) == (0, 10, 99, 20)
    assert where(drawn(Mark((60, 70, 10, 20)))) == (10, 20, 60, 70), "corners out of order"


def test_hostile_labels_and_many_boxes() -> None:
    drawn(Mark((0, 0, 50, 50), "\x00\u202e" * 5000))
    many = [Mark((n / 100, 0, 50, 50), "", n // MAX_BOXES) for n in range(10 * MAX_BOXES)]
    assert math.prod(drawn(*many).shape) == 100 * 80 * 3
    assert not (drawn(*many) == ImageColor.getrgb(COLOURS[1])).all(-1).any(), "only the first are drawn"
