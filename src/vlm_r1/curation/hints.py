"""Hints of `data check`: options that the data ask for. One is given only where the data contradict what is set."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlm_r1.data.rows import BOX_TOLERANCE_PX
from vlm_r1.errors import DataError
from vlm_r1.tasks import TASKS
from vlm_r1.tasks.base import Task
from vlm_r1.tasks.plain import PlainTask
from vlm_r1.types import Box, Parsed, PlacedBox, Record

_SHAPES: Mapping[str, str] = {"ovd": "boxes with labels", "multi_rec": "lists of boxes", "rec": "single boxes"}
"""Task of boxes → what its gold answers are; the first that reads the answers counts."""

_LEAST_READ, _LEAST_UNREAD = 0.9, 0.1
"""Shares of the gold answers that another task must read, and that the chosen one must not, before it is named."""


def task_hint(records: Sequence[Record], refused: Sequence[Record], task: Task[Any, Any]) -> str | None:
    """Name the task of boxes that reads the gold answers which the chosen task does not; None if there is none.

    Args:
        records: all records, usable or not.
        refused: those that cannot be used.
        task: the chosen task, one of `TASKS`.
    """
    unread = [record for record in refused if _is_unread(task, record)]
    if not unread or len(unread) < _LEAST_UNREAD * len(records):
        return None
    for name, shape in _SHAPES.items():
        boxes = [_boxes_read(TASKS[name], record) for record in (*records, *unread)]
        n = sum(found is not None for found in boxes[: len(records)])
        if name != task.name and any(boxes[len(records) :]) and n >= _LEAST_READ * len(records):
            return (
                f"task {task.name} reads nothing in {len(unread):,} of {len(records):,} gold answers; as {shape} "
                f"{n:,} of them can be read: --task {name}"
            )
    return None


def _is_unread(task: Task[Any, Any], record: Record) -> bool:
    """Whether a refused gold answer has another form than the task reads; other reasons do not count."""
    if task.name in _SHAPES:
        return _boxes_read(task, record) is None
    try:
        task.gold(record)
    except DataError:
        return isinstance(task, PlainTask)
    return False


def _boxes_read(task: Task[Any, Any], record: Record) -> Sequence[PlacedBox] | None:
    """The boxes that a task reads in a gold answer; None if it has another form. Detection wants labels."""
    text = record.answer if isinstance(record.answer, str) else json.dumps(record.answer)
    parsed = task.parse(text, record)
    if not isinstance(parsed, Parsed) or (task.name == "ovd" and not all(item.label for item in parsed.value)):
        return None
    return task.boxes(parsed.value)


@dataclass(frozen=True)
class WrittenBox:
    """A gold box as it is written, in pixels.

    Attributes:
        box: its four numbers, read as x1, y1, x2, y2.
        wh: width and height of the upright image.
        swaps: whether the image is stored with its sides swapped, so that only an EXIF tag turns it upright.
    """

    box: Box
    wh: tuple[int, int]
    swaps: bool = False

    @property
    def fits(self) -> bool:
        """Whether it lies in the upright image."""
        return _inside(self.box, self.wh)

    @property
    def fits_swapped(self) -> bool:
        """Whether it lies in an image with the sides swapped."""
        width, height = self.wh
        return _inside(self.box, (height, width))


def orientation_hint(boxes: Iterable[WrittenBox]) -> str | None:
    """Advise the stored orientation if boxes lie only in the images as stored, and none only in the upright ones.

    A few boxes may lie in neither: a tenth as many at most.

    >>> turned = WrittenBox((500, 10, 600, 50), (480, 640), swaps=True)
    >>> orientation_hint([turned])
    '1 box lies in its picture only as it is stored (its EXIF orientation turns it): --orientation stored'
    >>> orientation_hint([turned, WrittenBox((10, 500, 50, 600), (480, 640), swaps=True)]) is None
    True
    """
    n_stored = n_upright = n_neither = 0
    for one in boxes:
        stored = one.fits_swapped if one.swaps else one.fits
        n_stored += stored and not one.fits
        n_upright += one.fits and not stored
        n_neither += not one.fits and not stored
    if not n_stored or n_upright or 10 * n_neither > n_stored:
        return None
    what, turns = ("box lies in its picture", "it is") if n_stored == 1 else ("boxes lie in their pictures", "they are")
    turned = "its EXIF orientation turns it" if n_stored == 1 else "their EXIF orientation turns them"
    return f"{n_stored:,} {what} only as {turns} stored ({turned}): --orientation stored"


def _inside(box: Box, wh: tuple[int, int]) -> bool:
    x1, y1, x2, y2 = box
    width, height = wh
    return min(x1, y1) >= -BOX_TOLERANCE_PX and x2 - width <= BOX_TOLERANCE_PX and y2 - height <= BOX_TOLERANCE_PX
