"""Rewards of answers that are a point in a region, e.g. a click on a button.

The gold answer is a region in original pixels: a box, or a polygon of at least three corners. It includes its edges. If
a task asks for a box, the centre of the answered box counts.
"""

# pyright: standard

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from vlm_r1.geometry.boxes import centre, in_polygon
from vlm_r1.rewards.base import RewardInput, unsuitable, wrong_option
from vlm_r1.types import Box, Point

Polygon = tuple[Point, ...]


def point_in_region(given: RewardInput[Any]) -> float:
    """1 if the point lies in the gold region, else 0; accuracy of GUI grounding measures the same.

    Raises:
        DataError: the record's gold answer is no region.
    """
    polygon = _polygon(given, "point_in_region")
    return float(given.value is not None and in_polygon(_as_point(given.value), polygon))


def point_distance(given: RewardInput[Any], *, scale: float = 0.1, near: float = 0.5) -> float:
    """1 in the gold region; outside, the reward falls with the distance, so that misses of a group differ.

    r = 1 inside, else near · exp(−d / (scale · diagonal)). Here d is the distance to the nearest point of the region,
    and the diagonal is that of the image, both in original pixels. r is in [0, 1]; it is 0 for an answer that is no
    point.

    Args:
        scale: distance at which a miss earns near / e, as a share of the diagonal; positive.
        near: the most that a miss can earn, in [0, 1].

    Raises:
        DataError: the record's gold answer is no region.
        ConfigError: an option is out of range.
    """
    if not 0 < scale < math.inf:
        raise wrong_option("point_distance", "scale", scale, "scale > 0")
    if not 0 <= near <= 1:
        raise wrong_option("point_distance", "near", near, "0 ≤ near ≤ 1")
    polygon = _polygon(given, "point_distance")
    if given.value is None:
        return 0.0
    point = _as_point(given.value)
    if in_polygon(point, polygon):
        return 1.0
    distance_px = min(_distance_to_segment(point, a, b) for a, b in pairwise((*polygon, polygon[0])))
    image = given.gold_boxes[0].image if given.gold_boxes else 0  # on which the region lies
    return near * math.exp(-distance_px / (scale * math.hypot(*given.frames[image].original_wh)))


def _as_point(value: Point | Box) -> Point:
    return centre(value) if len(value) == 4 else value


def _polygon(given: RewardInput[Any], name: str) -> Polygon:
    """The corners of the gold region."""
    gold = given.gold
    if isinstance(gold, tuple) and [type(number) for number in gold] == [float] * 4:
        x1, y1, x2, y2 = gold
        return ((x1, y1), (x2, y1), (x2, y2), (x1, y2))
    if isinstance(gold, tuple) and len(gold) >= 3 and all(isinstance(p, tuple) and len(p) == 2 for p in gold):
        return gold
    raise unsuitable(given, name, "points with a region")


def _distance_to_segment(point: Point, a: Point, b: Point) -> float:
    """Euclidean distance to the nearest point of the straight line from a to b."""
    (x, y), (ax, ay), (bx, by) = point, a, b
    length2 = (bx - ax) ** 2 + (by - ay) ** 2
    along = ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / length2 if length2 else 0.0
    along = min(max(along, 0.0), 1.0)
    return math.hypot(x - ax - along * (bx - ax), y - ay - along * (by - ay))
