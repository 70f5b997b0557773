"""Boxes: IoU and its variants, and the conventions of all code except `official`, which copies the original's.

A box is float `(x1, y1, x2, y2)` with x1 ≤ x2 and y1 ≤ y2. The conventions are:

* Area is (x2 − x1)(y2 − y1): edges are positions on the image plane, so there is no inclusive "+1".
* Swapped corners are put in order when a box is read (`order_corners`), since the order of corners is not part of the
  answer.
* A model's box is never clipped to the image before IoU: area claimed outside the image costs IoU like any other
  wrong area.
* A box without area has IoU 0 with every box, including itself.
* The edges of a box or a polygon belong to it: a point on them is inside.
* Numbers are finite and of reasonable size: parsing refuses all others, so nothing here checks again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vlm_r1.types import Box, Point

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_TINY = float(np.finfo(np.float64).tiny)  # the smallest divisor: two boxes without area give 0 / tiny = 0, not 0 / 0


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes.

    IoU(a, b) = |a ∩ b| / |a ∪ b|, in [0, 1], symmetric; 1 only for equal boxes that have an area.

    Args:
        a, b: boxes in the same coordinates, corners in order.

    >>> iou((0, 0, 10, 10), (5, 0, 15, 10))  # 50 / (100 + 100 - 50)
    0.3333333333333333
    >>> iou((0, 0, 1, 1), (1, 0, 2, 1)), iou((3, 3, 3, 3), (3, 3, 3, 3))  # touching; without area
    (0.0, 0.0)
    """
    ax1, ay1, ax2, ay2 = a
    bx1, by1, bx2, by2 = b
    # without calls of min and max, since these lines take most of the time of a detection reward
    width = (ax2 if ax2 < bx2 else bx2) - (ax1 if ax1 > bx1 else bx1)
    height = (ay2 if ay2 < by2 else by2) - (ay1 if ay1 > by1 else by1)
    if width <= 0 or height <= 0:
        return 0.0
    intersection = width * height
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - intersection
    return intersection / max(union, _TINY)


def paired_iou(boxes_P4: npt.ArrayLike, others_P4: npt.ArrayLike, crowd_P: BoolArray | bool = False) -> FloatArray:
    """Compute `iou` of each box with the other box at the same index.

    Args:
        boxes_P4, others_P4: (P, 4) boxes in the same coordinates, corners in order.
        crowd_P: (P,) bool, or one for all: whether the other box encloses a crowd of objects without their own boxes.
            For these the value is the share of the box in the crowd: |box ∩ other| / |box|.

    Returns:
        (P,) float64, in [0, 1].

    Source: cocoapi, `maskUtils.iou` with `iscrowd`.

    >>> boxes = [(0, 0, 10, 10), (0, 0, 10, 10)]
    >>> paired_iou(boxes, [(5, 0, 15, 10), (5, 0, 15, 10)], np.array([False, True])).round(3).tolist()
    [0.333, 0.5]
    """
    ax1, ay1, ax2, ay2 = _edges(boxes_P4)
    bx1, by1, bx2, by2 = _edges(others_P4)
    width = np.maximum(np.minimum(ax2, bx2) - np.maximum(ax1, bx1), 0.0)
    height = np.maximum(np.minimum(ay2, by2) - np.maximum(ay1, by1), 0.0)
    intersection = width * height
    own: FloatArray = (ax2 - ax1) * (ay2 - ay1)
    joint: FloatArray = own + (bx2 - bx1) * (by2 - by1) - intersection
    return intersection / np.maximum(np.where(crowd_P, own, joint), _TINY)


def box_areas(boxes_N4: npt.ArrayLike) -> FloatArray:
    """Compute `area` of each box.

    Args:
        boxes_N4: (N, 4), corners in order.

    Returns:
        (N,) float64, in square pixels.

    >>> box_areas([(10, 20, 110, 220)]).tolist()
    [20000.0]
    """
    x1, y1, x2, y2 = _edges(boxes_N4)
    return (x2 - x1) * (y2 - y1)


def _edges(boxes_N4: npt.ArrayLike) -> FloatArray:
    """Return x1, y1, x2 and y2 of all boxes as an array (4, N)."""
    return np.asarray(boxes_N4, dtype=np.float64).reshape(-1, 4).T


def giou(a: Box, b: Box) -> float:
    """Generalised IoU, which keeps falling as boxes that do not overlap move apart.

    GIoU = IoU − (|hull| − |a ∪ b|) / |hull|, where the hull is the least box around both. It is in [−1, 1], symmetric,
    and never above IoU. It is 1 only for equal boxes with an area, and near −1 for small boxes far apart. For two boxes
    without area it is −1 if their hull has an area, and 0 if the hull has none.

    Source: Rezatofighi et al. 2019, arXiv 1902.09630.

    >>> giou((0, 0, 1, 1), (2, 0, 3, 1))  # 0 - (3 - 2) / 3
    -0.3333333333333333
    """
    overlap = iou(a, b)
    width, height = _hull_wh(a, b)
    hull = width * height
    union = (area(a) + area(b)) / (1.0 + overlap)  # since overlap = (|a| + |b| - union) / union
    return overlap - min(max(hull - union, 0.0) / max(hull, _TINY), 1.0)


def diou(a: Box, b: Box) -> float:
    """Distance IoU: IoU minus the squared distance of the centres relative to the hull's diagonal.

    DIoU = IoU − d² / c², where d is the distance of the centres and c the diagonal of the least box around both. It is
    in [−1, 1], symmetric and never above IoU. It is 1 only for equal boxes with an area. Boxes without area have IoU 0,
    so two points have −1, and equal points 0.

    Source: Zheng et al. 2020, arXiv 1911.08287.

    >>> diou((0, 0, 1, 1), (2, 0, 3, 1))  # 0 - 2² / (3² + 1²)
    -0.4
    """
    (ax, ay), (bx, by) = centre(a), centre(b)
    width, height = _hull_wh(a, b)
    apart = (ax - bx) ** 2 + (ay - by) ** 2
    return iou(a, b) - min(apart / max(width**2 + height**2, _TINY), 1.0)


def ciou(a: Box, b: Box) -> float:
    """Complete IoU: distance IoU minus a term for different aspect ratios.

    CIoU = DIoU − α v, where v = (2/π · (angle a − angle b))², angle = atan(width / height), and α = v / (1 − IoU + v).
    α is 0 if v is 0. CIoU is in [−1.5, 1], symmetric and never above DIoU. It is 1 only for equal boxes with an area.
    A box without height has the angle π/2, and a point 0.

    Source: Zheng et al. 2020, arXiv 1911.08287.

    >>> round(ciou((0, 0, 2, 1), (0, 0, 1, 2)), 4)  # 1/3 - 0.5/8 - v² / (1 - 1/3 + v), v = (2/π · 0.6435)² = 0.1678
    0.2371
    """
    angles = [math.atan2(x2 - x1, y2 - y1) for x1, y1, x2, y2 in (a, b)]
    v = (2 / math.pi * (angles[0] - angles[1])) ** 2
    return diou(a, b) - (v * v / (1 - iou(a, b) + v) if v else 0.0)


def _hull_wh(a: Box, b: Box) -> tuple[float, float]:
    """Width and height of the least box around both."""
    return max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])


def area(box: Box) -> float:
    """(x2 − x1)(y2 − y1), in square pixels.

    >>> area((10, 20, 110, 220))
    20000
    """
    return (box[2] - box[0]) * (box[3] - box[1])


def centre(box: Box) -> Point:
    """The point where the diagonals cross.

    >>> centre((10, 20, 110, 220))
    (60.0, 120.0)
    """
    return ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)


def in_polygon(point: Point, polygon: Sequence[Point]) -> bool:
    """Return whether a point lies in a polygon or on its outline.

    By the even-odd rule, a point is inside if a ray from it crosses the outline an odd number of times. So an area that
    the polygon covers twice is outside.

    Args:
        polygon: its corners in order; the last is joined to the first. Two corners are a segment, no corners are empty.

    >>> triangle = [(0, 0), (10, 0), (0, 10)]
    >>> in_polygon((2, 2), triangle), in_polygon((5, 5), triangle), in_polygon((6, 6), triangle)
    (True, True, False)
    """
    x, y = point
    inside = False
    for (x1, y1), (x2, y2) in zip(polygon, [*polygon[1:], *polygon[:1]], strict=True):
        side = (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)  # 0 on the line; the sign tells the side
        if side == 0 and min(x1, x2) <= x <= max(x1, x2) and min(y1, y2) <= y <= max(y1, y2):
            return True
        if (y1 > y) != (y2 > y) and (side > 0) == (y2 > y1):  # the ray to the right crosses this edge
            inside = not inside
    return inside


def order_corners(box: Box) -> Box:
    """Put swapped corners in order, for xyxy and for yxyx.

    >>> order_corners((110, 20, 10, 220))
    (10, 20, 110, 220)
    """
    a1, b1, a2, b2 = box
    if a1 <= a2 and b1 <= b2:
        return box
    return (min(a1, a2), min(b1, b2), max(a1, a2), max(b1, b2))


def clip_box(box: Box, wh: tuple[float, float]) -> Box:
    """Clip a box to an image of size (width, height); the result has no area if the box lies outside.

    This is for gold boxes and drawing. A model's box is never clipped before IoU (see the module's docstring).

    >>> clip_box((-5, 10, 50, 500), (640, 480))
    (0, 10, 50, 480)
    """
    width, height = wh
    x1, y1, x2, y2 = box
    return (min(max(x1, 0), width), min(max(y1, 0), height), min(max(x2, 0), width), min(max(y2, 0), height))
