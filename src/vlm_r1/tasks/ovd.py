"""Open-vocabulary detection: the answer is labelled boxes of all objects of the named kinds, or None."""

from __future__ import annotations

import json
from dataclasses import dataclass

from vlm_r1.geometry.average_precision import average_precisions, precision_recall
from vlm_r1.geometry.frames import format_coordinates, from_original, to_original
from vlm_r1.parsing.labelled_boxes import LabelledBox, parse_labelled_boxes
from vlm_r1.parsing.normal_form import normalize_label
from vlm_r1.tasks.boxes import frame_of, placed, read_gold, wrap
from vlm_r1.types import AnswerValue, BoxFormat, ImageFrame, Parsed, ParseFailure, PlacedBox, Record

Objects = tuple[LabelledBox, ...]

_QUESTION = (  # paper §5.1
    "Please carefully check the image and detect the following objects: {}. Output each detected target's bbox "
    "coordinates in JSON format. The format of the bbox coordinates is: ```json "
    '[{{"bbox_2d": [x1, y1, x2, y2], "label": "target name"}}, '
    '{{"bbox_2d": [x1, y1, x2, y2], "label": "target name"}}] '
    "```. If there are no such targets in the image, simply respond with None."
)

_METRICS = ("map", "ap50", "precision_iou50", "recall_iou50", "label_precision", "label_recall")


@dataclass(frozen=True)
class Ovd:
    """The answer is a tuple of LabelledBox, empty for None; the accuracy reward is odLength.

    Attributes:
        image: index of the image on which the objects lie (0 is the first, -1 the last); None: the record's only image.
    """

    image: int | None = None

    name = "ovd"
    reward = "odlength"
    answer_is_box = False  # the question itself says how to write the boxes
    main_metric = "map"

    def question(self, record: Record) -> str:
        """Wrap a list such as "cat, red car" in the paper's sentence; a problem that mentions boxes stays as it is."""
        return wrap(record, _QUESTION)

    def gold(self, record: Record) -> Objects:
        """Read the gold objects, JSON or its text or "None", by the same rule as a model's answer."""
        form = '"None", or [{"bbox_2d": [x1, y1, x2, y2], "label": "cat"}, …]'
        return read_gold(record, parse_labelled_boxes, self.boxes, self.image, what="list of labelled boxes", form=form)

    def gold_text(self, gold: Objects, frames: tuple[ImageFrame, ...], box_format: BoxFormat) -> str:
        """Write fenced JSON with integers in the model's coordinates, or None."""
        if not gold:
            return "None"
        frame = frame_of(frames, self.image)
        written = [(item.label, from_original(item.box, frame, box_format)) for item in gold]
        items = [{"bbox_2d": format_coordinates(box, box_format), "label": label} for label, box in written]
        return f"```json\n{json.dumps(items, ensure_ascii=False)}\n```"

    def parse(self, answer_text: str, record: Record) -> Parsed[Objects] | ParseFailure:
        """See `parse_labelled_boxes`."""
        return parse_labelled_boxes(answer_text)

    def to_pixels(self, value: Objects, frames: tuple[ImageFrame, ...], box_format: BoxFormat) -> Objects:
        """See `to_original`."""
        frame = frame_of(frames, self.image)
        return tuple(LabelledBox(item.label, to_original(item.box, frame, box_format)) for item in value)

    def metrics(self, value: Objects | None, gold: Objects) -> dict[str, float]:
        """mAP@[.5:.95] and AP50 of this image, precision and recall of its boxes at IoU ≥ 0.5, and of its labels.

        Their means over a set are not COCO's numbers of the set, since COCO pools the boxes of all images. Each label
        counts once, regardless of its boxes: 1 − label_precision is the share of the labels that a model claims to see
        but that are absent, such as hard negatives.
        """
        if value is None:
            return dict.fromkeys(_METRICS, 0.0)
        found = [item.box for item in value], [normalize_label(item.label) for item in value]
        there = [item.box for item in gold], [normalize_label(item.label) for item in gold]
        precisions_T = average_precisions(*found, *there)
        numbers = (
            sum(precisions_T) / len(precisions_T),
            precisions_T[0],
            *precision_recall(*found, *there),
            *_shares_in_common(set(found[1]), set(there[1])),
        )
        return dict(zip(_METRICS, numbers, strict=True))

    def answer_json(self, value: Objects) -> AnswerValue:
        """`[{"bbox_2d": [x1, y1, x2, y2], "label": …}, …]`, floats in original pixels; with `image` if it is given."""
        where: dict[str, AnswerValue] = {} if self.image is None else {"image": self.image}
        return [{"bbox_2d": list(item.box), "label": item.label, **where} for item in value]

    def boxes(self, gold: Objects) -> tuple[PlacedBox, ...]:
        """All boxes, in order."""
        return placed((item.box for item in gold), self.image)


def _shares_in_common(found: set[str], there: set[str]) -> tuple[float, float]:
    """The shares of `found` and of `there` that both have; both are 1 if both sets are empty, both 0 if one is."""
    if not found or not there:
        return float(found == there), float(found == there)
    common = len(found & there)
    return common / len(found), common / len(there)
