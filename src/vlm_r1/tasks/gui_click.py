"""GUI grounding: the model answers one instruction about one or several screenshots with the point to click."""

# pyright: standard

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import pairwise

from vlm_r1.errors import DataError
from vlm_r1.geometry.boxes import in_polygon
from vlm_r1.geometry.frames import format_coordinates, point_from_original, point_to_original
from vlm_r1.parsing.boxes import in_range, read_box, read_json
from vlm_r1.parsing.gold_boxes import misordered_boxes
from vlm_r1.parsing.points import parse_point
from vlm_r1.tasks.boxes import check_image
from vlm_r1.types import IMAGE_TOKEN, AnswerValue, BoxFormat, ImageFrame, Parsed, ParseFailure, PlacedBox, Point, Record

Region = tuple[Point, ...]
"""The corners of a polygon (at least three), or the four corners of a box."""

_QUESTION = (
    "Please provide the coordinates of the point to click for this instruction: {instruction}. Output the point in "
    'JSON format: {{"point_2d": [x, y]}}.'
)
_SPEAKS_OF_POINTS = re.compile(r"\b(point|point_2d|coordinates?)\b", re.IGNORECASE)
_LEAST_ROOM_PX = 1e-3
_LEVELS = 15  # number of lines that are searched for a point inside a region; odd, so that one halves it


@dataclass(frozen=True)
class GuiClick:
    """The answer is a Point, the gold answer a region that it must hit; the accuracy reward is 1 for a hit.

    Attributes:
        image: index of the screenshot with the region. It is the last by default, since earlier ones are history; 0 is
            the first, as in `FIRST_CLICK = GuiClick(image=0)`, `task: my_package.tasks:FIRST_CLICK`.
    """

    image: int = -1

    name = "gui_click"
    reward = "point_in_region"
    answer_is_box = False
    main_metric = "accuracy"

    def question(self, record: Record) -> str:
        """Wrap a bare instruction in a sentence that says how to write a point; one that mentions points stays."""
        if _SPEAKS_OF_POINTS.search(record.problem):
            return record.problem
        instruction = record.problem.replace(IMAGE_TOKEN, "").strip().rstrip(".")
        return IMAGE_TOKEN * len(record.question_images) + _QUESTION.format(instruction=instruction)

    def gold(self, record: Record) -> Region:
        """Read the region, a box (a list or `{"bbox_2d": […]}`) or a polygon `[[x, y], …]`, or the text of either."""
        check_image(record, self.image)
        text = record.answer if isinstance(record.answer, str) else json.dumps(record.answer)
        region = _read_region(text)
        if isinstance(region, ParseFailure):
            raise DataError(
                f"{record.source}: the gold answer {text:.200} is no region ({region.reason}); wanted a box [x1, y1, "
                "x2, y2] or a polygon [[x, y], …] of at least 3 corners, in pixels of the original image"
            )
        if disorder := misordered_boxes(record.answer):
            raise DataError(f"{record.source}: the gold {disorder}")
        return region

    def gold_text(self, gold: Region, frames: tuple[ImageFrame, ...], box_format: BoxFormat) -> str:
        """Write `{"point_2d": [x, y]}`: a point well inside the region, as integers in the model's coordinates."""
        *_, point = max(points_inside(gold))  # the one with the most room, so that rounding keeps it inside
        written = point_from_original(point, frames[self.image], box_format)
        return json.dumps({"point_2d": format_coordinates(written, box_format)})

    def parse(self, answer_text: str, record: Record) -> Parsed[Point] | ParseFailure:
        """See `parse_point`."""
        return parse_point(answer_text)

    def to_pixels(self, value: Point, frames: tuple[ImageFrame, ...], box_format: BoxFormat) -> Point:
        """See `point_to_original`."""
        return point_to_original(value, frames[self.image], box_format)

    def metrics(self, value: Point | None, gold: Region) -> dict[str, float]:
        """Return the accuracy: 1 for a point in the region or on its edge."""
        return {"accuracy": float(value is not None and in_polygon(value, gold))}

    def answer_json(self, value: Point) -> AnswerValue:
        """`[x, y]`, floats in original pixels."""
        return list(value)

    def boxes(self, gold: Region) -> tuple[PlacedBox, ...]:
        """The least box around the region."""
        xs, ys = zip(*gold, strict=True)
        return (PlacedBox((min(xs), min(ys), max(xs), max(ys)), self.image),)


def _read_region(text: str) -> Region | ParseFailure:
    found = read_json(text)
    if isinstance(found, ParseFailure):
        return found
    corners = found.value
    if isinstance(corners, list) and len(corners) >= 3 and all(isinstance(corner, list) for corner in corners):
        return _read_polygon(corners)
    box = read_box(corners)
    if isinstance(box, ParseFailure):
        return box
    x1, y1, x2, y2 = box
    has_room = min(x2 - x1, y2 - y1) > 4 * _LEAST_ROOM_PX  # twice what `points_inside` needs: floats are not exact
    return ((x1, y1), (x2, y1), (x2, y2), (x1, y2)) if has_room else ParseFailure("no_area")


def _read_polygon(corners: list[list[object]]) -> Region | ParseFailure:
    region: list[Point] = []
    for corner in corners:
        numbers = [number for number in corner if isinstance(number, float)]
        if len(numbers) != 2 or len(corner) != 2:
            return ParseFailure("wrong_arity")
        if not in_range(numbers):
            return ParseFailure("number_out_of_range")
        region.append((numbers[0], numbers[1]))
    return tuple(region) if points_inside(tuple(region)) else ParseFailure("no_area")


def points_inside(region: Region) -> list[tuple[float, float, Point]]:
    """Find points inside a region, each with its room: the distance to the nearest edge along each axis, in pixels.

    Returns:
        (room along the narrower axis, room along the other one, point). Points with less room than a thousandth of a
        pixel are left out, so a region without area has none.

    >>> max(points_inside(((0.0, 0.0), (6.0, 0.0), (6.0, 4.0), (0.0, 4.0))))
    (2.0, 3.0, (3.0, 2.0))
    """
    top, bottom = min(y for _, y in region), max(y for _, y in region)
    turned = tuple((y, x) for x, y in region)
    found: list[tuple[float, float, Point]] = []
    for level in range(_LEVELS):
        y = top + (bottom - top) * (level + 0.5) / _LEVELS
        xs = _crossings(region, y)
        for left, right in zip(xs[::2], xs[1::2], strict=True):  # inside between the first and second, and so on
            x = (left + right) / 2
            room_x, room_y = (right - left) / 2, min((abs(y - edge) for edge in _crossings(turned, x)), default=0.0)
            found.append((min(room_x, room_y), max(room_x, room_y), (x, y)))
    return [candidate for candidate in found if candidate[0] > _LEAST_ROOM_PX]


def _crossings(region: Region, level: float) -> list[float]:
    """The x at which the outline crosses the horizontal line at `level`, in order; their number is even."""
    edges = pairwise((*region, region[0]))
    return sorted(
        x1 + (level - y1) * (x2 - x1) / (y2 - y1) for (x1, y1), (x2, y2) in edges if (y1 > level) != (y2 > level)
    )
