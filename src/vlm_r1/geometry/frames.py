"""The only coordinate conversions in the repository: a model's own coordinates ↔ pixels of the original image.

Every format is a scale and an axis order: coordinates run over the width and height of a *canvas* (the original
image, the resized image, or 1000 × 1000), and are written x first or y first. Nothing is rounded on the way in; on
the way out `format_coordinates` rounds to the integers that a model writes.
"""

from __future__ import annotations

from vlm_r1.types import Box, BoxFormat, ImageFrame

_NORM_SIZE = 1000


def to_original(box: Box, frame: ImageFrame, fmt: BoxFormat) -> Box:
    """Convert a box from the model's coordinates to pixels of the original image.

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
    x1, y1, x2, y2 = _swap_axes(box) if fmt is BoxFormat.NORM_1000_YX else box
    width, height = frame.original_wh
    canvas_width, canvas_height = _canvas_wh(frame, fmt)
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
    x1, y1, x2, y2 = box
    width, height = frame.original_wh
    canvas_width, canvas_height = _canvas_wh(frame, fmt)
    scaled = (
        x1 * canvas_width / width,
        y1 * canvas_height / height,
        x2 * canvas_width / width,
        y2 * canvas_height / height,
    )
    return _swap_axes(scaled) if fmt is BoxFormat.NORM_1000_YX else scaled


def format_coordinates(box: Box, fmt: BoxFormat) -> list[int]:
    """The four integers a model writes for a box that is already in its own coordinates.

    Rounded to the nearest integer; at least 0, and at most 1000 in the normalised formats (a gold box may overshoot its
    image by a fraction of a pixel). Each edge moves by at most half a unit, so a box at least 4 units wide and high
    keeps an IoU above 0.5 with what it was: the worst is (4 − 1)² / 4² = 0.5625.

    >>> format_coordinates((9.6, 20.2, 110.0, 1000.4), BoxFormat.NORM_1000)
    [10, 20, 110, 1000]
    """
    normalised = fmt in (BoxFormat.NORM_1000, BoxFormat.NORM_1000_YX)
    rounded = [max(round(value), 0) for value in box]
    return [min(value, _NORM_SIZE) for value in rounded] if normalised else rounded


def _canvas_wh(frame: ImageFrame, fmt: BoxFormat) -> tuple[int, int]:
    match fmt:
        case BoxFormat.ORIGINAL_PIXELS:
            return frame.original_wh
        case BoxFormat.INPUT_PIXELS:
            return frame.input_wh
        case BoxFormat.NORM_1000 | BoxFormat.NORM_1000_YX:
            return (_NORM_SIZE, _NORM_SIZE)


def _swap_axes(box: Box) -> Box:
    first1, second1, first2, second2 = box
    return (second1, first1, second2, first2)
