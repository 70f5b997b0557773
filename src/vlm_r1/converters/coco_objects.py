"""One annotation of a file in COCO's layout → its object, or the reason why it has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vlm_r1.converters.files import numbers_in
from vlm_r1.converters.ids import Id
from vlm_r1.converters.pictures import Unusable, from_xywh
from vlm_r1.parsing.json_values import is_list
from vlm_r1.types import Box

NO_BOX = "without a box of four numbers, and without a polygon"
NEGATIVE = "of negative width or height"
IGNORED = "marked as to be ignored"
UNKNOWN_FLAG = "its iscrowd or ignore is neither 0 nor 1"

_CROWD = ("iscrowd", "is_crowd", "isgroupof", "IsGroupOf")
"""Keys of the crowd flag: COCO's, and those of Open Images."""

_UNUSED = ("rle", "keypoints", "counts")
"""Keys that fill most of such a file and are not needed; neither is `segmentation` where there is a box."""


@dataclass(frozen=True, slots=True)
class CocoObject:
    """One annotation.

    Attributes:
        label: name of its category.
        box: xyxy in pixels, or the reason why there is none.
        crowd: whether it is a region with a crowd of objects.
        image_id: id of the image to which the annotation assigns it.
    """

    label: str
    box: Box | Unusable
    crowd: bool = False
    image_id: Id | None = None


def slim(row: dict[str, Any]) -> dict[str, Any]:
    """Remove polygons from an annotation, unless it has no box."""
    for key in _UNUSED:
        row.pop(key, None)
    if "segmentation" in row and numbers_in(row.get("bbox"), 4) is not None:
        del row["segmentation"]
    return row


def read_object(row: Mapping[str, Any], label: str, image_id: Id) -> CocoObject:
    """Read one annotation; a malformed one yields an object with an `Unusable` box."""
    crowds, ignored = [_flag(row[key]) for key in _CROWD if key in row], _flag(row.get("ignore"))
    if None in (*crowds, ignored):
        return CocoObject(label, Unusable(UNKNOWN_FLAG), image_id=image_id)
    return CocoObject(label, Unusable(IGNORED) if ignored else _box(row), any(crowds), image_id)


def _flag(value: Any) -> bool | None:
    """Read 0 or 1 from a number, a truth value or a text; None: it is neither.

    >>> _flag("1"), _flag(1.0), _flag("false"), _flag(None), _flag(2)
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
    """The box around COCO's polygons, [[x1, y1, x2, y2, …], …]; None if there are none, or one is broken."""
    if not is_list(polygons):
        return None
    xs: list[float] = []
    ys: list[float] = []
    for polygon in polygons:
        numbers = numbers_in(polygon, len(polygon)) if is_list(polygon) else None
        if numbers is None or len(numbers) % 2 or 0 < len(numbers) < 6:
            return None
        xs += numbers[::2]
        ys += numbers[1::2]
    return (min(xs), min(ys), max(xs), max(ys)) if xs else None
