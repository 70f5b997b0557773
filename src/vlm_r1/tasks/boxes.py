"""Functions that all box tasks share: they wrap a bare question, read the gold answer, and say where boxes lie.

The boxes of `Rec`, `MultiRec` and `Ovd` lie on one image. Their field `image` is its index (0 is the first, -1 the
last), or None for the question's only image. If the question shows none, that is the only image of earlier turns. Those
come first, so it is the record's last image either way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TypeVar

from vlm_r1.errors import DataError
from vlm_r1.geometry.boxes import area
from vlm_r1.parsing.gold_boxes import misordered_boxes
from vlm_r1.types import IMAGE_TOKEN, AnswerValue, Box, ImageFrame, Parsed, ParseFailure, PlacedBox, Record

V = TypeVar("V")


def wrap(record: Record, sentence: str) -> str:
    """Put the problem into the `{}` of a sentence, images first; a problem that mentions boxes stays as it is.

    >>> wrap(Record("1", "rec", "<image>the cat.", ("a.png",), None), "Where is {}?")
    '<image>Where is the cat?'
    """
    problem = record.problem.lower()
    if "bbox" in problem or "bounding box" in problem:
        return record.problem
    return IMAGE_TOKEN * len(record.question_images) + sentence.format(
        record.problem.replace(IMAGE_TOKEN, "").strip().rstrip(".")
    )


def read_gold(
    record: Record,
    parse: Callable[[str], Parsed[V] | ParseFailure],
    boxes: Callable[[V], tuple[PlacedBox, ...]],
    image: int | None,
    *,
    what: str,
    form: str,
) -> V:
    """Read a gold answer of boxes, a JSON value or its text, by the same rule as a model's answer.

    Args:
        parse: the rule of the task.
        boxes: returns all boxes of an answer.
        image: index of the image of the boxes; None: the question must have exactly one, or none and its earlier turns
            exactly one.
        what, form: kind and form of the answer, for the error message, e.g. "box" and "[x1, y1, x2, y2]".

    Raises:
        DataError: the image is not there, the answer is unreadable, or a box has no area or swapped corners.
    """
    if image is not None:
        check_image(record, image)
    elif len(images := record.question_images or record.images) != 1:
        advice = "; name the image of the boxes, e.g. Rec(image=1): docs/add_a_task.md" if images else ""
        raise DataError(f"{record.source}: task {record.task} wants exactly 1 image, got {len(images)}{advice}")
    text = record.answer if isinstance(record.answer, str) else json.dumps(record.answer)
    parsed = parse(text)
    if isinstance(parsed, ParseFailure):
        raise DataError(
            f"{record.source}: the gold answer {text:.200} is no {what} ({parsed.reason}); wanted {form} in pixels of "
            "the original image"
        )
    if disorder := misordered_boxes(record.answer):
        raise DataError(f"{record.source}: the gold {disorder}")
    for box, _ in boxes(parsed.value):
        if area(box) == 0:
            raise DataError(
                f"{record.source}: the gold box {list(box)} has no area, so no answer could match it; "
                "wanted x1 < x2 and y1 < y2"
            )
    return parsed.value


def check_image(record: Record, image: int) -> None:
    """Check that a record has the image with this index.

    Raises:
        DataError: it has too few.
    """
    n_images = len(record.images)
    if not -n_images <= image < n_images:
        raise DataError(
            f"{record.source}: the answer of task {record.task} lies on image {image} (0 is the first, -1 the last), "
            f"but the record has {n_images} images; wanted at least {image + 1 if image >= 0 else -image}"
        )


def frame_of(frames: tuple[ImageFrame, ...], image: int | None) -> ImageFrame:
    """Return the frame of the image with this index; for None that of the last, see above."""
    return frames[-1 if image is None else image]


def placed(boxes: Iterable[Box], image: int | None) -> tuple[PlacedBox, ...]:
    """Put all boxes on the image with this index; for None on the last, see above."""
    return tuple(PlacedBox(box, -1 if image is None else image) for box in boxes)


def box_json(box: Box, image: int | None) -> AnswerValue:
    """Write a box for `Task.answer_json`, with its image if it lies on one of several.

    >>> box_json((1.0, 2.0, 3.0, 4.0), None), box_json((1.0, 2.0, 3.0, 4.0), 1)
    ([1.0, 2.0, 3.0, 4.0], {'bbox_2d': [1.0, 2.0, 3.0, 4.0], 'image': 1})
    """
    return list(box) if image is None else {"bbox_2d": list(box), "image": image}
