"""Images with boxes on them, as all pages show them: which boxes an answer holds, where they lie, and what is cut."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import cast

from vlm_r1.errors import DataError, VlmR1Error
from vlm_r1.parsing.boxes import parse_box
from vlm_r1.report.excerpt import visible
from vlm_r1.report.tags import Tag, place_labels
from vlm_r1.tasks import get_task
from vlm_r1.types import AnswerValue, Parsed, PlacedBox, Record

MAX_IMAGES = 4  # images of one record that are shown; images with boxes are always shown
MAX_BOXES = 60  # boxes of one answer that are drawn
LABEL_LIMIT = 300  # characters of a problem, an answer or a name that are shown


@dataclass(frozen=True)
class DrawnBox:
    """A rectangle in pixels of the original image; `completion` is None for a gold box."""

    x: str
    y: str
    width: str
    height: str
    completion: int | None
    colour: str
    label: str

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        x, y, width, height = (float(side) for side in (self.x, self.y, self.width, self.height))
        return (x, y, x + width, y + height)


@dataclass(frozen=True)
class DrawnImage:
    """An image with its boxes, the last on top; the size is in original pixels, and `url` None: see `missing`, why."""

    url: str | None
    width: int
    height: int
    pixelated: bool
    boxes: tuple[DrawnBox, ...]
    missing: str = ""

    @cached_property
    def tags(self) -> list[tuple[DrawnBox, Tag]]:
        """The labels that stand on the boxes, each with its box; those of gold boxes are placed first."""
        boxes = sorted((box for box in self.boxes if box.label), key=lambda box: box.completion is not None)
        labels = [(box.label, box.edges, box.completion is None) for box in boxes]
        placed = place_labels(labels, (self.width, self.height))
        return [(box, tag) for box, tag in zip(boxes, placed, strict=True) if tag]

    @property
    def n_untagged(self) -> int:
        """How many labels found no place; they are shown when one points at the box."""
        return sum(bool(box.label) for box in self.boxes) - len(self.tags)


def first_image(record: Record) -> int:
    """Return the index of the question's first image: those of earlier turns come before it."""
    return len(record.images) - len(record.question_images)


def boxes_of(value: AnswerValue, first: int = 0) -> Iterator[tuple[PlacedBox, str]]:
    """Yield all finite boxes in an answer with their labels, in order, in any task's form.

    A box lies on the image whose index its object holds as "image", or else on the question's first.

    Args:
        first: from `first_image`.

    >>> list(boxes_of([10, 20, 110, 220]))
    [(PlacedBox(box=(10.0, 20.0, 110.0, 220.0), image=0), '')]
    >>> list(boxes_of([{"bbox_2d": [0, 0, 5, 5], "label": "dog", "image": 1}, {"label": "no box"}]))
    [(PlacedBox(box=(0.0, 0.0, 5.0, 5.0), image=1), 'dog')]
    >>> list(boxes_of("12")), list(boxes_of([1, 2])), list(boxes_of([0, 0, 1, float("nan")]))
    ([], [], [])
    """
    if isinstance(value, list) and len(numbers := [_float(v) for v in value if type(v) in (int, float)]) == 4:
        if len(value) == 4 and all(map(math.isfinite, numbers)):
            yield PlacedBox((numbers[0], numbers[1], numbers[2], numbers[3]), first), ""
    elif isinstance(value, list):
        for item in value:
            yield from boxes_of(item, first) if isinstance(item, list | dict) else ()
    elif isinstance(value, dict):
        found = next((value[key] for key in ("bbox_2d", "bbox", "box") if key in value), None)
        label, image = value.get("label", ""), value.get("image")
        place = image if isinstance(image, int) else first
        yield from ((PlacedBox(box, place), str(label)) for (box, _), _ in boxes_of(found))
    elif isinstance(value, str) and isinstance(parsed := parse_box(value), Parsed):
        yield PlacedBox(parsed.value, first), ""


def marks_of(value: AnswerValue, first: int = 0) -> Iterator[tuple[PlacedBox, str]]:
    """Yield the boxes of an answer, or its point as a box without sides on the last image, where `gui_click` looks.

    >>> list(marks_of([3.5, 7]))
    [(PlacedBox(box=(3.5, 7.0, 3.5, 7.0), image=-1), '')]
    >>> list(marks_of("[3.5, 7]")), list(marks_of([3.5, float("inf")]))
    ([], [])
    """
    if isinstance(value, str):  # numbers in a text are no boxes
        return
    if isinstance(value, list) and len(value) == 2:
        x, y = (_float(number) if type(number) in (int, float) else math.nan for number in value)
        if math.isfinite(x) and math.isfinite(y):
            yield PlacedBox((x, y, x, y), -1), ""
            return
    yield from boxes_of(value, first)


def gold_boxes(record: Record) -> list[tuple[PlacedBox, str]]:
    """Return the gold boxes as the record's task reads them, with labels if the gold answer has them.

    Raises:
        ConfigError: the task is unknown.
        DataError: the task cannot use the gold answer.
    """
    task = get_task(record.task)
    gold = task.gold(record)
    items = cast("tuple[object, ...]", gold) if isinstance(gold, tuple) else ()
    labels = [str(getattr(item, "label", "")) for item in items]
    return list(zip(task.boxes(gold), itertools.chain(labels, itertools.repeat("")), strict=False))


def draw(
    boxes: Iterable[tuple[PlacedBox, str]], n_images: int, completion: int | None = None, colour: str = ""
) -> Iterator[tuple[int, DrawnBox]]:
    """Yield the first boxes of an answer as rectangles, each with the index of its image, from 0."""
    for ((x1, y1, x2, y2), image), label in itertools.islice(boxes, MAX_BOXES):
        sides = (f"{v:.6g}" for v in (x1, y1, x2 - x1, y2 - y1))
        box = DrawnBox(*sides, completion=completion, colour=colour, label=visible(label[:LABEL_LIMIT]))
        yield image % n_images, box  # -1 is the last image


def shown_images(n_images: int, drawn: Iterable[tuple[int, DrawnBox]]) -> list[int]:
    """Return the indices of the images to show: the first few, and all others with boxes."""
    with_boxes = {image for image, _ in drawn}
    return [image for image in range(n_images) if image < MAX_IMAGES or image in with_boxes]


def _float(value: AnswerValue) -> float:
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:  # an integer of more than 308 digits
        return math.inf


def placed_gold(record: Record, tasks: Set[str]) -> list[tuple[PlacedBox, str]]:
    """Return the gold boxes of a record out of a run folder.

    With several images, or a gold answer that is no box, such as a polygon, its task says where they lie.

    Args:
        tasks: names of the tasks that may be asked; the folder may come from a stranger.
    """
    written = list(boxes_of(record.answer, first_image(record)))
    if record.task in tasks and (len(record.images) > 1 or (isinstance(record.answer, list) and not written)):
        with suppress(VlmR1Error):  # it cannot use the gold answer
            return _asked_of_the_task(record)
    return written


def _asked_of_the_task(record: Record) -> list[tuple[PlacedBox, str]]:
    """`gold_boxes`, where a task from outside may miss the columns of its line, which rollouts do not hold."""
    try:
        return gold_boxes(record)
    except Exception as error:
        raise DataError(f"{record.source}: task {record.task} cannot read the gold answer: {error!r}") from error


def as_text(value: AnswerValue) -> str:
    """Format a value for people: texts without quotes, numbers rounded to a tenth."""
    return value if isinstance(value, str) else json.dumps(_rounded(value), ensure_ascii=False)


def _rounded(value: AnswerValue) -> AnswerValue:
    if isinstance(value, float) and math.isfinite(value):
        return int(value) if value == int(value) and abs(value) < 1e15 else round(value, 1)
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value
