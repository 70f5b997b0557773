"""Boxes: the only definition of IoU in the repository, and the conventions that everything else rests on.

A box is float `(x1, y1, x2, y2)` with x1 ≤ x2 and y1 ≤ y2. Decided once, here:

* Area is (x2 − x1)(y2 − y1): edges are positions on the image plane, so there is no inclusive "+1".
* Swapped corners are put in order when a box is read (`order_corners`): which corner comes first is a habit, not an
  answer.
* A model's box is never clipped to the image before IoU: area claimed outside the image costs IoU like any other
  wrong area.
* A box without area has IoU 0 with every box, itself included.
* Numbers are finite and of sane size: parsing refuses all others, so nothing here checks again.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vlm_r1.types import Box

FloatArray = npt.NDArray[np.float64]

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
    # no calls of min and max: these lines are most of the time of a detection reward
    width = (ax2 if ax2 < bx2 else bx2) - (ax1 if ax1 > bx1 else bx1)
    height = (ay2 if ay2 < by2 else by2) - (ay1 if ay1 > by1 else by1)
    if width <= 0 or height <= 0:
        return 0.0
    intersection = width * height
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - intersection
    return intersection / max(union, _TINY)


def box_iou(boxes_N4: npt.ArrayLike, boxes_M4: npt.ArrayLike) -> FloatArray:
    """`iou` of all pairs: the same formula on arrays, equal to the last bit.

    Args:
        boxes_N4, boxes_M4: (N, 4) and (M, 4) boxes in the same coordinates, corners in order; N and M may be 0.

    Returns:
        (N, M) float64, in [0, 1].

    >>> box_iou([(0, 0, 10, 10)], [(0, 0, 10, 10), (5, 0, 15, 10)]).round(3).tolist()
    [[1.0, 0.333]]
    >>> box_iou([], [(0, 0, 1, 1)]).shape
    (0, 1)
    """
    ax1, ay1, ax2, ay2 = np.asarray(boxes_N4, dtype=np.float64).reshape(-1, 4).T[:, :, None]
    bx1, by1, bx2, by2 = np.asarray(boxes_M4, dtype=np.float64).reshape(-1, 4).T[:, None, :]
    width_NM = np.maximum(np.minimum(ax2, bx2) - np.maximum(ax1, bx1), 0.0)
    height_NM = np.maximum(np.minimum(ay2, by2) - np.maximum(ay1, by1), 0.0)
    intersection_NM = width_NM * height_NM
    union_NM = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - intersection_NM
    return intersection_NM / np.maximum(union_NM, _TINY)


def order_corners(box: Box) -> Box:
    """Put swapped corners in order; works for xyxy and for yxyx.

    >>> order_corners((110, 20, 10, 220))
    (10, 20, 110, 220)
    """
    a1, b1, a2, b2 = box
    if a1 <= a2 and b1 <= b2:
        return box
    return (min(a1, a2), min(b1, b2), max(a1, a2), max(b1, b2))


def clip_box(box: Box, wh: tuple[float, float]) -> Box:
    """The part of a box that lies on an image of size (width, height); without area if none does.

    For gold boxes and drawing. Never applied to a model's box before IoU (see the module's text).

    >>> clip_box((-5, 10, 50, 500), (640, 480))
    (0, 10, 50, 480)
    """
    width, height = wh
    x1, y1, x2, y2 = box
    return (min(max(x1, 0), width), min(max(y1, 0), height), min(max(x2, 0), width), min(max(y2, 0), height))
