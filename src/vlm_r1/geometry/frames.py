"""Conversions between a model's own coordinates and pixels of the original image.

No other module converts the coordinates of a model; `data/coordinates.py` converts the units of data files. Every
format is a scale and an axis order. Coordinates run over the width and height of a *canvas*, which is the original
image, the resized image, 1000 × 1000, or 1 × 1. They are written x first or y first. Answers are converted without
rounding. For prompts and gold answers `format_coordinates` rounds to the integers, or thousandths, that a model writes.
"""

from __future__ import annotations

from collections.abc import Sequence

from vlm_r1.types import Box, BoxFormat, ImageFrame, Point

_NORM_SIZE = 1000


def to_original(box: Box, frame: ImageFrame, fmt: BoxFormat) -> Box:
    """Convert a box, corner by corner, from the model's coordinates to pixels of the original image.

    Args:
        box: four numbers in the order and unit of `fmt`, corners in order.
        frame: the image of the box.
        fmt: the coordinates the model family writes.

    Returns:
        The box as xyxy in original pixels, neither rounded nor clipped.

    >>> frame = ImageFrame(original_wh=(640, 480), input_wh=(1280, 960))
    >>> to_original((20, 40, 220, 440), frame, BoxFormat.INPUT_PIXELS)
    (10.0, 20.0, 110.0, 220.0)
    >>> to_original((250, 500, 750, 1000), frame, BoxFormat.NORM_1000_YX)  # y first
    (320.0, 120.0, 640.0, 360.0)
    """
    x1, y1, x2, y2 = (box[1], box[0], box[3], box[2]) if fmt is BoxFormat.NORM_1000_YX else box
    width, height = frame.original_wh
    canvas_width, canvas_height = _canvas_wh(frame, fmt)
    # written out rather than as two points, because it is called for every box of every answer
    return (
        x1 * width / canvas_width,
        y1 * height / canvas_height,
        x2 * width / canvas_width,
        y2 * height / canvas_height,
    )


def from_original(box: Box, frame: ImageFrame, fmt: BoxFormat) -> Box:
    """Convert a box from pixels of the original image to the model's coordinates: the inverse of `to_original`.

    >>> frame = ImageFrame(original_wh=(640, 480), input_wh=(1280, 960))
    >>> from_original((10, 20, 110, 220), frame, BoxFormat.INPUT_PIXELS)
    (20.0, 40.0, 220.0, 440.0)
    """
    return point_from_original((box[0], box[1]), frame, fmt) + point_from_original((box[2], box[3]), frame, fmt)


def point_to_original(point: Point, frame: ImageFrame, fmt: BoxFormat) -> Point:
    """Convert a point from the model's coordinates to pixels of the original image.

    Args:
        point: two numbers in the order and unit of `fmt`.
        frame: the image of the point.
        fmt: the coordinates the model family writes.

    Returns:
        (x, y) in original pixels, neither rounded nor clipped.

    >>> frame = ImageFrame(original_wh=(640, 480), input_wh=(1280, 960))
    >>> point_to_original((250, 500), frame, BoxFormat.NORM_1000_YX)  # y first
    (320.0, 120.0)
    """
    x, y = (point[1], point[0]) if fmt is BoxFormat.NORM_1000_YX else point
    width, height = frame.original_wh
    canvas_width, canvas_height = _canvas_wh(frame, fmt)
    return (x * width / canvas_width, y * height / canvas_height)


def point_from_original(point: Point, frame: ImageFrame, fmt: BoxFormat) -> Point:
    """Convert a point from original pixels to the model's coordinates: the inverse of `point_to_original`.

    >>> frame = ImageFrame(original_wh=(640, 480), input_wh=(1280, 960))
    >>> point_from_original((320, 120), frame, BoxFormat.NORM_1000_YX)
    (250.0, 500.0)
    """
    x, y = point
    width, height = frame.original_wh
    canvas_width, canvas_height = _canvas_wh(frame, fmt)
    x, y = x * canvas_width / width, y * canvas_height / height
    return (y, x) if fmt is BoxFormat.NORM_1000_YX else (x, y)


def format_coordinates(coordinates: Sequence[float], fmt: BoxFormat) -> list[int] | list[float]:
    """Round a box or a point in the model's coordinates to the numbers that the model writes.

    A unit is an integer, or a thousandth if coordinates run from 0 to 1. Numbers are clipped to at least 0, and to at
    most 1000 or 1 in the normalised formats, since a gold box may exceed its image by a fraction of a pixel. Each edge
    moves by at most half a unit. So a box at least 4 units wide and high keeps an IoU above 0.5 with the exact box: the
    worst case is (4 − 1)² / 4² = 0.5625.

    >>> format_coordinates((9.6, 20.2, 110.0, 1000.4), BoxFormat.NORM_1000)
    [10, 20, 110, 1000]
    >>> format_coordinates((0.0096, 0.25, 1.0004), BoxFormat.NORM_1)
    [0.01, 0.25, 1.0]
    """
    if fmt is BoxFormat.NORM_1:
        return [min(max(round(value, 3), 0.0), 1.0) for value in coordinates]
    normalised = fmt in (BoxFormat.NORM_1000, BoxFormat.NORM_1000_YX)
    rounded = [max(round(value), 0) for value in coordinates]
    return [min(value, _NORM_SIZE) for value in rounded] if normalised else rounded


def _canvas_wh(frame: ImageFrame, fmt: BoxFormat) -> tuple[int, int]:
    match fmt:
        case BoxFormat.ORIGINAL_PIXELS:
            return frame.original_wh
        case BoxFormat.INPUT_PIXELS:
            return frame.input_wh
        case BoxFormat.NORM_1000 | BoxFormat.NORM_1000_YX:
            return (_NORM_SIZE, _NORM_SIZE)
        case BoxFormat.NORM_1:
            return (1, 1)
