"""Referring expression comprehension: the answer to a sentence about one image is one box."""

from __future__ import annotations

from dataclasses import dataclass

from vlm_r1.geometry.boxes import iou
from vlm_r1.geometry.frames import format_coordinates, from_original, to_original
from vlm_r1.parsing.boxes import parse_box
from vlm_r1.tasks.boxes import box_json, frame_of, placed, read_gold, wrap
from vlm_r1.types import AnswerValue, Box, BoxFormat, ImageFrame, Parsed, ParseFailure, PlacedBox, Record

_QUESTION = "Please provide the bounding box coordinates of the region this sentence describes: {}."  # paper §5.1


@dataclass(frozen=True)
class Rec:
    """The answer is a Box; the accuracy reward is its IoU with the gold box.

    Attributes:
        image: index of the image on which the box lies (0 is the first, -1 the last); None: the record's only image.
    """

    image: int | None = None

    name = "rec"
    reward = "iou"
    answer_is_box = True
    main_metric = "accuracy_iou50"

    def question(self, record: Record) -> str:
        """Wrap a bare expression in the paper's sentence; a problem that mentions a bounding box stays as it is."""
        return wrap(record, _QUESTION)

    def gold(self, record: Record) -> Box:
        """Read the gold box, a list or `{"bbox_2d": […]}` or the text of either, by the rule for a model's answer."""
        return read_gold(record, parse_box, self.boxes, self.image, what="box", form="[x1, y1, x2, y2]")

    def gold_text(self, gold: Box, frames: tuple[ImageFrame, ...], box_format: BoxFormat) -> str:
        """Write `[x1, y1, x2, y2]`, integers in the model's coordinates."""
        return str(format_coordinates(from_original(gold, frame_of(frames, self.image), box_format), box_format))

    def parse(self, answer_text: str, record: Record) -> Parsed[Box] | ParseFailure:
        """See `parse_box`."""
        return parse_box(answer_text)

    def to_pixels(self, value: Box, frames: tuple[ImageFrame, ...], box_format: BoxFormat) -> Box:
        """See `to_original`."""
        return to_original(value, frame_of(frames, self.image), box_format)

    def metrics(self, value: Box | None, gold: Box) -> dict[str, float]:
        """IoU, and accuracy at IoU > 0.5: strictly greater, as in the paper's tables and the original's evaluation."""
        overlap = 0.0 if value is None else iou(value, gold)
        return {"accuracy_iou50": float(overlap > 0.5), "iou": overlap}

    def answer_json(self, value: Box) -> AnswerValue:
        """`[x1, y1, x2, y2]`, floats in original pixels; see `box_json`."""
        return box_json(value, self.image)

    def boxes(self, gold: Box) -> tuple[PlacedBox, ...]:
        """The one box."""
        return placed((gold,), self.image)
