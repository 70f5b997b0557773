"""Gold boxes in the units of a data file → pixels of the upright image.

A file may give its boxes in pixels or as fractions (0–1000, 0–1) of width and height, on the upright image or on the
image as stored. (`geometry/frames.py` converts the boxes that a model writes.)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

from vlm_r1.config.words import BoxNumbers, Coordinates
from vlm_r1.errors import DataError
from vlm_r1.geometry.boxes import order_corners
from vlm_r1.parsing.gold_boxes import BOX_KEYS, numbers_of
from vlm_r1.parsing.json_values import is_number
from vlm_r1.types import AnswerValue, Box, Point

POINT_KEYS = ("point_2d", "point")
"""Keys of an object for its point."""

_SIZES = {"norm_1000": 1000.0, "norm_1": 1.0}


def upright_point(point: Point, stored_wh: tuple[float, float], orientation: int) -> Point:
    """Move a point with its image when the stored image is turned upright.

    Args:
        point: x and y in pixels of the stored image.
        stored_wh: its width and height as stored, in pixels.
        orientation: EXIF tag of the image, 1 to 8; any other value counts as 1, upright.

    Returns:
        x and y in pixels of the upright image. For orientations 5 to 8 its width is the height of the stored image.

    >>> upright_point((10, 20), (640, 480), 3)  # upside down
    (630, 460)
    >>> upright_point((10, 20), (640, 480), 6)  # to be turned clockwise
    (460, 10)
    """
    x, y = point
    width, height = stored_wh
    turned = {
        2: (width - x, y),
        3: (width - x, height - y),
        4: (x, height - y),
        5: (y, x),
        6: (height - y, x),
        7: (height - y, width - x),
        8: (y, width - x),
    }
    return turned.get(orientation, (x, y))


def upright_box(box: Box, stored_wh: tuple[float, float], orientation: int) -> Box:
    """Apply `upright_point` to both corners and put the results in order.

    >>> upright_box((10, 20, 110, 220), (640, 480), 6)
    (260, 10, 460, 110)
    """
    x1, y1, x2, y2 = box
    return order_corners(
        (*upright_point((x1, y1), stored_wh, orientation), *upright_point((x2, y2), stored_wh, orientation))
    )


def to_corners(numbers: Sequence[float], box: BoxNumbers) -> Box:
    """Turn the four numbers of a box into its corners.

    Args:
        numbers: as `box` says, in any unit.
        box: "xyxy" (two corners, returned as they are), "xywh" (left, top, width, height) or "cxcywh" (centre, width,
            height).

    Raises:
        DataError: a width or height is negative.

    >>> to_corners([10, 20, 100, 200], "xywh"), to_corners([60, 120, 100, 200], "cxcywh")
    ((10, 20, 110, 220), (10.0, 20.0, 110.0, 220.0))
    """
    a, b, c, d = numbers
    if box == "xyxy":
        return (a, b, c, d)
    if min(c, d) < 0:
        raise DataError(f"box {numbers_of((a, b, c, d))} has a negative width or height; wanted {box} (option box)")
    left, top = (a, b) if box == "xywh" else (a - c / 2, b - d / 2)
    return (left, top, left + c, top + d)


@dataclass(frozen=True)
class Units:
    """What the numbers of a file's gold boxes mean.

    Attributes:
        wh: width and height in pixels of the image on which the boxes lie; as stored, if it still has to be turned.
        coordinates: unit of the numbers.
        orientation: EXIF orientation of that image if it still has to be turned; 1: it is upright.
        box: meaning of the four numbers.
    """

    wh: tuple[int, int]
    coordinates: Coordinates
    orientation: int = 1
    box: BoxNumbers = "xyxy"


def to_pixels(answer: AnswerValue, units: Units) -> AnswerValue:
    """Convert all boxes and points of a gold answer to pixels of the upright image.

    Args:
        answer: a box `[x1, y1, x2, y2]`; a point `[x, y]`; an object with one of `BOX_KEYS` or `POINT_KEYS`; a list of
            these; or JSON text of any of them, with or without a ```json fence.
        units: what its numbers mean.

    Returns:
        The same structure with unrounded floats; JSON text is parsed. A text without digits ("None") and an empty list
        hold no box and are returned as they are.

    Raises:
        DataError: a number belongs to no box, so its unit is unknown; or a width or height is negative.

    >>> to_pixels([100, 200, 300, 400], Units((640, 480), "norm_1000"))
    [64.0, 96.0, 192.0, 192.0]
    >>> to_pixels('[{"bbox_2d": [0, 0, 0.5, 0.5], "label": "cat"}]', Units((640, 480), "norm_1"))
    [{'bbox_2d': [0.0, 0.0, 320.0, 240.0], 'label': 'cat'}]
    >>> to_pixels("None", Units((640, 480), "norm_1"))
    'None'
    """
    if isinstance(answer, str):
        if not any(character.isdigit() for character in answer):
            return answer
        answer = _json_in(answer)
    return _converted(answer, units)


def _converted(value: AnswerValue, units: Units) -> AnswerValue:
    if _is_numbers(value, 4) or _is_numbers(value, 2):
        return _turned(value, units)
    if isinstance(value, list) and all(isinstance(item, list | dict) for item in value):
        return [_converted(item, units) for item in value]
    if isinstance(value, dict):
        return _object(value, units)
    raise _no_box(value)


def _object(value: dict[str, AnswerValue], units: Units) -> AnswerValue:
    lengths = {key: n for keys, n in ((BOX_KEYS, 4), (POINT_KEYS, 2)) for key in keys if key in value}
    if not lengths:
        raise _no_box(value)
    converted = dict(value)
    for key, n in lengths.items():
        numbers = value[key]
        if not _is_numbers(numbers, n):
            raise _no_box(value)
        converted[key] = _turned(numbers, units)
    return converted


def _turned(numbers: list[float], units: Units) -> list[AnswerValue]:
    """Make corners of four numbers (two are a point), scale them to pixels, and turn them with their image."""
    corners = to_corners(numbers, units.box) if len(numbers) == 4 else numbers
    if units.coordinates == "pixels":
        scaled = [float(number) for number in corners]
    else:
        size = _SIZES[units.coordinates]
        scaled = [number * side / size for number, side in zip(corners, units.wh * 2, strict=False)]
    if len(scaled) == 2:
        return list(upright_point((scaled[0], scaled[1]), units.wh, units.orientation))
    return list(upright_box((scaled[0], scaled[1], scaled[2], scaled[3]), units.wh, units.orientation))


def _is_numbers(value: AnswerValue, n: int) -> TypeGuard[list[float]]:
    if not isinstance(value, list) or len(value) != n:
        return False
    return all(map(is_number, value))


def _json_in(text: str) -> AnswerValue:
    try:
        return json.loads(text.strip().removeprefix("```json").strip("`"))
    except (ValueError, RecursionError):
        raise _no_box(text) from None


def _no_box(value: AnswerValue) -> DataError:
    shown = json.dumps(value, ensure_ascii=False)
    return DataError(
        f"the answer {shown:.80} holds something else than boxes, so its numbers cannot be converted to pixels; wanted "
        '[x1, y1, x2, y2], [x, y], {"bbox_2d": […]}, a list of these, or "None"'
    )
