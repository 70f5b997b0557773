"""Tasks whose boxes lie on a given image of several, or on each of two: complete, as a user would write them."""

from __future__ import annotations

import json

from vlm_r1.errors import DataError
from vlm_r1.geometry.boxes import iou
from vlm_r1.geometry.frames import format_coordinates, from_original, to_original
from vlm_r1.parsing.boxes import parse_boxes
from vlm_r1.rewards import RewardInput
from vlm_r1.tasks.boxes import box_json
from vlm_r1.tasks.multi_rec import MultiRec
from vlm_r1.tasks.ovd import Ovd
from vlm_r1.tasks.rec import Rec
from vlm_r1.types import AnswerValue, BoxFormat, ImageFrame, Parsed, ParseFailure, PlacedBox, Record

Pair = tuple[PlacedBox, ...]
"""A box on the first image, and one on the second."""

SECOND_REC = Rec(image=1)
SECOND_MULTI_REC = MultiRec(image=1)
LAST_OVD = Ovd(image=-1)


class FindTwice:
    """The same thing is to be found in two images: the answer is `[[x1, y1, x2, y2], [x1, y1, x2, y2]]`, in order."""

    name = "find_twice"
    reward = "testing_placed:lesser_iou"
    answer_is_box = False
    main_metric = "lesser_iou"

    def question(self, record: Record) -> str:
        return f"{record.problem} Answer with its box in each image: [[x1, y1, x2, y2], [x1, y1, x2, y2]]."

    def gold(self, record: Record) -> Pair:
        match self.parse(json.dumps(record.answer), record):
            case Parsed(value=pair):
                return pair
            case ParseFailure(reason=reason):
                raise DataError(f"{record.source}: the gold answer {record.answer!r:.200} is no two boxes ({reason})")

    def gold_text(self, gold: Pair, frames: tuple[ImageFrame, ...], box_format: BoxFormat) -> str:
        written = [from_original(box, frames[image], box_format) for box, image in gold]
        return json.dumps([format_coordinates(box, box_format) for box in written])

    def parse(self, answer_text: str, record: Record) -> Parsed[Pair] | ParseFailure:
        parsed = parse_boxes(answer_text)
        if isinstance(parsed, ParseFailure):
            return parsed
        if len(parsed.value) != 2:
            return ParseFailure("not_two_boxes")
        return Parsed(tuple(PlacedBox(box, image) for image, box in enumerate(parsed.value)))

    def to_pixels(self, value: Pair, frames: tuple[ImageFrame, ...], box_format: BoxFormat) -> Pair:
        return tuple(PlacedBox(to_original(box, frames[image], box_format), image) for box, image in value)

    def metrics(self, value: Pair | None, gold: Pair) -> dict[str, float]:
        return {"lesser_iou": _lesser_iou(value, gold)}

    def answer_json(self, value: Pair) -> AnswerValue:
        return [box_json(box, image) for box, image in value]

    def boxes(self, gold: Pair) -> tuple[PlacedBox, ...]:
        return gold


def lesser_iou(given: RewardInput[Pair]) -> float:
    """The lesser IoU of the two images, in [0, 1]."""
    return _lesser_iou(given.value, given.gold)


def _lesser_iou(value: Pair | None, gold: Pair) -> float:
    return 0.0 if value is None else min(iou(a.box, b.box) for a, b in zip(value, gold, strict=True))


class NeedsScene(FindTwice):
    """Its gold answer is in a column of its line, which a file of rollouts does not hold."""

    def gold(self, record: Record) -> Pair:
        return super().gold(record) if record.columns["scene"] else ()


NEEDS_SCENE = NeedsScene()
FIND_TWICE = FindTwice()
