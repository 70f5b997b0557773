"""A box as a set of points: the obvious functions that polygons, regions and pairs of boxes are compared with."""

import math

import numpy as np

from vlm_r1.geometry.boxes import iou


def contains(box, point):
    """Return whether a point lies in a box or on its edges."""
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def distance_to_box(point, box):
    """Euclidean distance from a point to the nearest point of a box, in pixels; 0 inside and on the edges."""
    x, y = point
    return math.hypot(max(box[0] - x, 0.0, x - box[2]), max(box[1] - y, 0.0, y - box[3]))


def iou_of_all_pairs(boxes, others):
    """Return `iou` of each box with each other box as an array (N, M)."""
    return np.array([[iou(box, other) for other in others] for box in boxes]).reshape(len(boxes), len(others))
