"""The only coordinate conversions in the repository: a model's own coordinates ↔ pixels of the original image.

Every format is a scale and an axis order: coordinates run over the width and height of a *canvas* (the original
image, the resized image, 1000 × 1000, or 1 × 1), and are written x first or y first. Nothing is rounded on the way in;
on the way out `format_coordinates` rounds to the integers, or thousandths, that a model writes.
"""

from __future__ import annotations

from collections.abc import Sequence

from vlm_r1.types import Box, BoxFormat, ImageFrame, Point

_NORM_SIZE = 1000


def to_original(box: Box, frame: ImageFrame, fmt: BoxFormat) -> Box:
    """Convert a box from the model's coordinates to pixels of the original image: each of its corners.

    Args:
        box: four numbers in the order and unit of `fmt`, corners in order.
        frame: the image the box is on.
        fmt: the coordinates the model family writes.

    Returns:
        xyxy in original pixels, not rounded, not clipped.

    >>> frame = ImageFrame(original_wh=(640, 480), input_wh=(1280, 960))
    >>> to_original((20, 40, 220, 440), frame, BoxFormat.INPUT_PIXELS)
    (10.0, 20.0, 110.0, 220.0)
    >>> to_original((250, 500, 750, 1000), frame, BoxFormat.NORM_1000_YX)  # y first
    (320.0, 120.0, 640.0, 360.0)
    """
    x1, y1, x2, y2 = (box[1], box[0], box[3], box[2]) if fmt is BoxFormat.NORM_1000_YX else box
    width, height = frame.original_wh
    canvas_width, canvas_height = _canvas_wh(frame, fmt)
    # corner by corner, as points; written out, because it is called for every box of every answer
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
        frame: the image the point is on.
        fmt: the coordinates the model family writes.

    Returns:
        (x, y) in original pixels, not rounded, not clipped.

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
    """The numbers a model writes for a box or a point that is already in its own coordinates.

    Rounded to the nearest unit: an integer, or a thousandth where coordinates run from 0 to 1. At least 0, and at most
    1000 or 1 in the normalised formats (a gold box may overshoot its image by a fraction of a pixel). Each edge moves
    by at most half a unit, so a box at least 4 units wide and high keeps an IoU above 0.5 with what it was: the worst
    is (4 − 1)² / 4² = 0.5625.

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
