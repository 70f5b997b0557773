"""Answers as a page shows them: a few as cards with pictures, the others as compact rows that its script draws."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from vlm_r1.data.image_paths import ImagePaths
from vlm_r1.evaluation.measures_subsets import subset_of
from vlm_r1.evaluation.samples import Sample
from vlm_r1.report.answers import RIGHT, finite, labels_of, verdict
from vlm_r1.report.drawing import (
    LABEL_LIMIT,
    MAX_BOXES,
    DrawnBox,
    DrawnImage,
    as_text,
    boxes_of,
    draw,
    first_image,
    marks_of,
    placed_gold,
    shown_images,
)
from vlm_r1.report.excerpt import Excerpt, context_of, excerpt, visible
from vlm_r1.report.figures import number
from vlm_r1.report.images import EXACT_SIDE_PX, checked_data_url
from vlm_r1.report.tables import is_share, readable
from vlm_r1.tasks import TASKS
from vlm_r1.types import AnswerValue, PlacedBox

ANSWER_COLOUR = "#ff6a1a"
TEXT_LIMIT = 2000  # characters of an answer on a card
ROW_TEXT_LIMIT = 240  # characters of an answer in a row
ROW_MARKS = 20  # boxes of an answer that are drawn in a row
CARD_SIDE_PX, THUMBNAIL_SIDE_PX = 480, 240
LARGEST_SIDE_PX = 1_000_000
_SHORT = {"iou": "IoU", "map": "AP", "ap50": "AP50", "f1_iou50": "F1"}

Mark = tuple[PlacedBox, str]


@dataclass(frozen=True)
class View:
    """One answer on a card.

    Attributes:
        side: whose answer it is, e.g. "A"; "" if there is only one.
        images: with the truth and the answer drawn.
        caption: how good it is, e.g. "IoU 0.31".
        right: whether it is right.
        verdict: "right", or what is wrong.
        answer: what was read; None: nothing.
        text: what the model wrote.
    """

    side: str
    images: tuple[DrawnImage, ...]
    caption: str
    right: bool
    verdict: str
    answer: Excerpt | None
    text: Excerpt


@dataclass(frozen=True)
class Card:
    """A record with one or several answers; `place` says why it is shown, e.g. "85 %"."""

    place: str
    record: str
    source: str
    problem: str
    context: Excerpt | None
    gold: Excerpt
    views: tuple[View, ...]

    @property
    def has_boxes(self) -> bool:
        """True if a box is drawn."""
        return any(image.boxes for view in self.views for image in view.images)


def card(place: str, samples: Mapping[str, Sample], main: str, images: ImagePaths) -> Card:
    """Return the card of a record.

    Args:
        samples: whose answer → the answer; all are about the same record.
        main: the main metric.
        images: folders and addresses that pictures may come from.
    """
    first = next(iter(samples.values()))
    urls: dict[str, tuple[str | None, str]] = {}
    return Card(
        place=place,
        record=record_of(first),
        source=visible(first.source[-LABEL_LIMIT:]),
        problem=problem_of(first),
        context=context_of(first.context),
        gold=excerpt(value_text(first.gold), LABEL_LIMIT),
        views=tuple(_view(side, sample, main, images, urls) for side, sample in samples.items()),
    )


def _view(side: str, sample: Sample, main: str, images: ImagePaths, urls: dict[str, tuple[str | None, str]]) -> View:
    n_images = len(sample.images)
    drawn = list(_drawn(sample, n_images)) if n_images else []
    found = verdict(sample, main)
    return View(
        side=side,
        images=tuple(_image(sample, place, drawn, images, urls) for place in shown_images(n_images, drawn)),
        caption=caption(sample, main),
        right=found == RIGHT,
        verdict=found,
        answer=None if sample.answer is None else excerpt(value_text(sample.answer), LABEL_LIMIT),
        text=excerpt(sample.text, TEXT_LIMIT),
    )


def _drawn(sample: Sample, n_images: int) -> Iterator[tuple[int, DrawnBox]]:
    """Yield the truth, then the answer above it, each box with the index of its image."""
    yield from draw(truth_of(sample), n_images)
    yield from draw(marks_of(sample.answer, first_image(sample.record())), n_images, 0, ANSWER_COLOUR)


def _image(
    sample: Sample,
    place: int,
    drawn: Iterable[tuple[int, DrawnBox]],
    images: ImagePaths,
    urls: dict[str, tuple[str | None, str]],
) -> DrawnImage:
    name = sample.images[place]
    if name not in urls:
        urls[name] = checked_data_url(name, CARD_SIDE_PX, images)
    url, missing = urls[name]
    width, height = size_px(sample, place)
    boxes = tuple(box for image, box in drawn if image == place)
    return DrawnImage(url, width, height, max(width, height) <= EXACT_SIDE_PX, boxes, visible(missing))


@dataclass
class RowWriter:
    """Makes rows, and remembers the words that they point to by number, so that each is in the page once.

    Attributes:
        main: the main metric.
        labels, groups, sides: word → its number; a side is whose answer it is.
        max_labels: how many labels are remembered.
    """

    main: str
    labels: dict[str, int]
    groups: dict[str, int]
    sides: dict[str, int]
    max_labels: int

    def choices(self) -> list[str]:
        """Return the labels that one can choose among, in the order of their numbers; none if there are too many."""
        return list(self.labels) if len(self.labels) < self.max_labels else []

    def row(self, group: str, samples: Mapping[str, Sample], url: str | None) -> dict[str, Any]:
        """Return a record with its answers, with short keys that `answers.js` knows.

        Args:
            group: the heading under which it stands.
            samples: side → its answer; all are to the same record.
            url: its picture; None: boxes are drawn on an empty canvas.
        """
        first = next(iter(samples.values()))
        place = shown_place(first)
        truth = truth_of(first) if first.images else []
        row: dict[str, Any] = {
            "k": self.groups[group],
            "q": problem_of(first),
            "i": record_of(first),
            "t": _short(value_text(first.gold)),
            "l": [self._number(label) for label in labels_of(first.gold)[:ROW_MARKS]],
            "z": subset_of(first, [box for (box, _), _ in truth], ())["box_size"] if truth else "",
            "a": [self._answer(side, sample, place, group) for side, sample in samples.items()],
        }
        if context := context_of(first.context):
            row["c"] = context.short
        if len(first.images) > 1:
            row["m"] = [place + 1, len(first.images)]
        if first.images:
            row |= {"w": list(size_px(first, place)), "b": _marks(truth, len(first.images), place)}
        return {**row, "u": url} if url else row

    def _number(self, label: str) -> int:
        return self.labels.setdefault(label, len(self.labels)) if len(self.labels) < self.max_labels else 0

    def _answer(self, side: str, sample: Sample, place: int, group: str) -> dict[str, Any]:
        found = verdict(sample, self.main)
        answer: dict[str, Any] = {"n": caption(sample, self.main), "x": _short(sample.text)}
        if side:
            answer["s"] = self.sides.setdefault(side, len(self.sides))
        if found not in (group, answer["n"]):
            answer["v"] = found
        if found == RIGHT:
            answer["o"] = 1
        if sample.images:
            answer["b"] = _marks(marks_of(sample.answer, first_image(sample.record())), len(sample.images), place)
        return answer


def rows_within(rows: Iterable[dict[str, Any]], size_bytes: int) -> list[dict[str, Any]]:
    """Return the first rows that need at most so many bytes in the page, their pictures not counted."""
    kept: list[dict[str, Any]] = []
    for row in rows:
        size_bytes -= len(json.dumps(row | {"u": ""}, ensure_ascii=False).encode())
        if size_bytes < 0:
            break
        kept.append(row)
    return kept


def caption(sample: Sample, main: str) -> str:
    """Return how good an answer is, in a word or a number: "IoU 0.31", "AP 0.40", "right"."""
    name = "iou" if "iou" in sample.metrics else main
    value = finite(sample.metrics, name)
    if value in (0.0, 1.0) and is_share(name):
        return "right" if value else "wrong"
    return f"{_SHORT.get(name) or readable(visible(name[:LABEL_LIMIT]))} {number(value, decimals=2)}"


def value_text(value: AnswerValue) -> str:
    """Return an answer as text for people, labelled boxes as "dog [10, 20, 110, 220]".

    >>> value_text([{"bbox_2d": [1, 2, 3, 4], "label": "dog"}, {"bbox_2d": [5.25, 6, 7, 8], "label": "cat"}])
    'dog [1, 2, 3, 4]; cat [5.2, 6, 7, 8]'
    >>> value_text([]), value_text("B"), value_text([1, 2, 3, 4])
    ('nothing', 'B', '[1, 2, 3, 4]')
    """
    boxes = list(boxes_of(value)) if isinstance(value, list) else []
    if any(label for _, label in boxes):
        return "; ".join(f"{label[:LABEL_LIMIT]} {as_text(list(box))}" for (box, _), label in boxes[:MAX_BOXES])
    return "nothing" if value == [] else as_text(value)


def problem_of(sample: Sample) -> str:
    """Return the question without its image marks, on one line, shortened."""
    text = " ".join(sample.problem[: 4 * LABEL_LIMIT].replace("<image>", " ").split())
    return visible(text if len(text) <= LABEL_LIMIT else f"{text[:LABEL_LIMIT]}…")


def record_of(sample: Sample) -> str:
    """Return the id of the record, and which of the answers to it this is, if there are several."""
    return visible(sample.record_id[:LABEL_LIMIT]) + (f", answer {sample.draw + 1}" if sample.draw else "")


def truth_of(sample: Sample, tasks: Set[str] = frozenset(TASKS)) -> list[Mark]:
    """Return the gold boxes with their labels; only our own tasks are asked where they lie."""
    return placed_gold(sample.record(), tasks)


def shown_place(sample: Sample) -> int:
    """Return the index of the image that a row shows: the first one with a gold box, else the first."""
    n_images = len(sample.images)
    return next((image % n_images for (_, image), _ in truth_of(sample)), 0) if n_images else 0


def size_px(sample: Sample, place: int) -> tuple[int, int]:
    """Return width and height of an image; a hostile size is bounded, and one that is missing is 100 by 100."""
    sizes = sample.image_sizes
    width, height = sizes[place] if place < len(sizes) else (100, 100)
    return min(max(width, 1), LARGEST_SIDE_PX), min(max(height, 1), LARGEST_SIDE_PX)


def _marks(marks: Iterable[Mark], n_images: int, place: int) -> list[list[float | str]]:
    """[x, y, width, height] of the boxes on one image, rounded to a tenth of a pixel, and the label if there is one."""
    found: list[list[float | str]] = []
    for ((x1, y1, x2, y2), image), label in marks:
        if image % n_images == place and len(found) < ROW_MARKS:
            sides = [round(side, 1) for side in (x1, y1, x2 - x1, y2 - y1)]
            if all(map(math.isfinite, sides)):  # the difference of finite numbers may be infinite
                found.append([*sides, visible(label[:LABEL_LIMIT])] if label else [*sides])
    return found


def _short(text: str) -> str:
    found = excerpt(text, ROW_TEXT_LIMIT)
    return f"{found.head} … {found.left_out:,} characters left out … {found.tail}" if found.left_out else found.head
