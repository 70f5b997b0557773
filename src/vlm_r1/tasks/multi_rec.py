"""Referring expressions for any number of objects: the answer to a sentence is all boxes that it describes, or None."""

from __future__ import annotations

import json
from dataclasses import dataclass

from vlm_r1.geometry.frames import format_coordinates, from_original, to_original
from vlm_r1.geometry.matching import match_boxes
from vlm_r1.parsing.boxes import parse_boxes
from vlm_r1.tasks.boxes import box_json, frame_of, placed, read_gold, wrap
from vlm_r1.types import AnswerValue, Box, BoxFormat, ImageFrame, Parsed, ParseFailure, PlacedBox, Record

Boxes = tuple[Box, ...]

_QUESTION = (
    "Please provide the bounding box coordinates of all regions this sentence describes: {}. Output them in JSON "
    'format: ```json [{{"bbox_2d": [x1, y1, x2, y2]}}, {{"bbox_2d": [x1, y1, x2, y2]}}] ```. If there are none, simply '
    "respond with None."
)


@dataclass(frozen=True)
class MultiRec:
    """The answer is a tuple of Box, empty for None; the accuracy reward is set F1.

    Attributes:
        image: index of the image on which the boxes lie (0 is the first, -1 the last); None: the record's only image.
    """

    image: int | None = None

    name = "multi_rec"
    reward = "set_f1"
    answer_is_box = False  # the question itself says how to write the boxes
    main_metric = "f1_iou50"

    def question(self, record: Record) -> str:
        """Wrap a bare expression in a sentence; a problem that mentions a bounding box stays as it is."""
        return wrap(record, _QUESTION)

    def gold(self, record: Record) -> Boxes:
        """Read the gold boxes, JSON or its text or "None", by the same rule as a model's answer."""
        form = '"None", or [[x1, y1, x2, y2], …]'
        return read_gold(record, parse_boxes, self.boxes, self.image, what="list of boxes", form=form)

    def gold_text(self, gold: Boxes, frames: tuple[ImageFrame, ...], box_format: BoxFormat) -> str:
        """Write fenced JSON with integers in the model's coordinates, or None."""
        if not gold:
            return "None"
        frame = frame_of(frames, self.image)
        written = [from_original(box, frame, box_format) for box in gold]
        items = [{"bbox_2d": format_coordinates(box, box_format)} for box in written]
        return f"```json\n{json.dumps(items)}\n```"

    def parse(self, answer_text: str, record: Record) -> Parsed[Boxes] | ParseFailure:
        """See `parse_boxes`."""
        return parse_boxes(answer_text)

    def to_pixels(self, value: Boxes, frames: tuple[ImageFrame, ...], box_format: BoxFormat) -> Boxes:
        """See `to_original`."""
        frame = frame_of(frames, self.image)
        return tuple(to_original(box, frame, box_format) for box in value)

    def metrics(self, value: Boxes | None, gold: Boxes) -> dict[str, float]:
        """Precision, recall and F1 of the boxes at IoU ≥ 0.5, paired optimally, and the metrics of gRefCOCO.

        `all_right_iou50` is 1 if F1 is 1; its mean over a set is Pr@(F1=1, IoU≥0.5) of GREC. Records without a target
        have `n_acc`, 1 if no box was given; records with targets have `t_acc`, 1 if any box was given. Source: GREC,
        arXiv 2308.16182, and GRES, arXiv 2306.00968, which pair greedily.
        """
        presence = "t_acc" if gold else "n_acc"
        if value is None:
            names = ("f1_iou50", "precision_iou50", "recall_iou50", "all_right_iou50", presence)
            return dict.fromkeys(names, 0.0)
        pairs = len(match_boxes(value, [""] * len(value), gold, [""] * len(gold)))
        both_none = float(not value and not gold)
        f1 = 2 * pairs / (len(value) + len(gold)) if value or gold else 1.0
        return {
            "f1_iou50": f1,
            "precision_iou50": pairs / len(value) if value else both_none,
            "recall_iou50": pairs / len(gold) if gold else both_none,
            "all_right_iou50": float(f1 == 1.0),
            presence: float(bool(value) == bool(gold)),
        }

    def answer_json(self, value: Boxes) -> AnswerValue:
        """`[[x1, y1, x2, y2], …]`, floats in original pixels; see `box_json`."""
        return [box_json(box, self.image) for box in value]

    def boxes(self, gold: Boxes) -> tuple[PlacedBox, ...]:
        """All boxes, in order."""
        return placed(gold, self.image)
