"""One annotation of a file in COCO's layout → the object that it marks, or why it marks none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vlm_r1.converters.files import numbers_in
from vlm_r1.converters.ids import Id
from vlm_r1.converters.pictures import Unusable, from_xywh
from vlm_r1.types import Box

NO_BOX = "without a box of four numbers, and without a polygon"
NEGATIVE = "of negative width or height"
IGNORED = "marked as to be ignored"
UNKNOWN_MARK = "its iscrowd or ignore is neither 0 nor 1"

_CROWD = ("iscrowd", "is_crowd", "isgroupof", "IsGroupOf")
"""Keys of the mark of a crowd: COCO's, and those of Open Images."""

_UNUSED = ("rle", "keypoints", "counts")
"""Keys that are most of such a file and that nobody here needs; so is `segmentation` where there is a box."""


@dataclass(frozen=True, slots=True)
class CocoObject:
    """One annotation.

    Attributes:
        label: its category's name.
        box: xyxy in pixels, or why there is none.
        crowd: whether it stands for a crowd of objects.
        image_id: of the image that it says it is in.
    """

    label: str
    box: Box | Unusable
    crowd: bool = False
    image_id: Id | None = None


def slim(row: dict[str, Any]) -> dict[str, Any]:
    """Forget polygons, unless they are all that says where an object is."""
    for key in _UNUSED:
        row.pop(key, None)
    if "segmentation" in row and numbers_in(row.get("bbox"), 4) is not None:
        del row["segmentation"]
    return row


def read_object(row: Mapping[str, Any], label: str, image_id: Id) -> CocoObject:
    """One annotation, whatever its numbers and marks look like."""
    crowds, ignored = [_mark(row[key]) for key in _CROWD if key in row], _mark(row.get("ignore"))
    if None in (*crowds, ignored):
        return CocoObject(label, Unusable(UNKNOWN_MARK), image_id=image_id)
    return CocoObject(label, Unusable(IGNORED) if ignored else _box(row), any(crowds), image_id)


def _mark(value: Any) -> bool | None:
    """Whether 0 or 1 is meant, by a number, a truth value or a text; None: neither.

    >>> _mark("1"), _mark(1.0), _mark("false"), _mark(None), _mark(2)
    (True, True, False, False, None)
    """
    if value == 0 or value is None:  # as nearly all are
        return False
    text = str(value).strip().lower() if isinstance(value, (str, int, float)) else value
    if text in ("1", "1.0", "true"):
        return True
    return False if text in (None, "", "0", "0.0", "false") else None


def _box(row: Mapping[str, Any]) -> Box | Unusable:
    numbers = numbers_in(row.get("bbox"), 4)
    if numbers is None:
        return _extent(row.get("segmentation")) or Unusable(NO_BOX)
    return Unusable(NEGATIVE) if min(numbers[2:]) < 0 else from_xywh(numbers)


def _extent(polygons: Any) -> Box | None:
    """The box round polygons as COCO has them, [[x1, y1, x2, y2, …], …]; None if there are none, or one is broken."""
    if not isinstance(polygons, list):
        return None
    xs: list[float] = []
    ys: list[float] = []
    for polygon in polygons:
        numbers = numbers_in(polygon, len(polygon)) if isinstance(polygon, list) else None
        if numbers is None or len(numbers) % 2 or 0 < len(numbers) < 6:
            return None
        xs += numbers[::2]
        ys += numbers[1::2]
    return (min(xs), min(ys), max(xs), max(ys)) if xs else None
