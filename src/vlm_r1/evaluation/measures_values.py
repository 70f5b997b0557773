"""The numbers of one answer under a protocol."""

from __future__ import annotations

from typing import Any, NamedTuple

from vlm_r1.evaluation.protocol import Protocol
from vlm_r1.evaluation.sample_answers import (
    Objects,
    choose_box,
    official_overlap,
    official_value,
    read_box,
    read_boxes,
    read_objects,
)
from vlm_r1.evaluation.samples import Sample
from vlm_r1.geometry.boxes import centre, iou
from vlm_r1.geometry.matching import set_f1
from vlm_r1.parsing.json_values import is_number
from vlm_r1.parsing.normal_form import normalize_label
from vlm_r1.tasks.base import Task
from vlm_r1.tasks.multi_rec import MultiRec
from vlm_r1.tasks.ovd import Ovd
from vlm_r1.tasks.rec import Rec
from vlm_r1.types import Box

OFFICIAL_FAILED = "official_failed"
"""Reason of an answer on which the original's own function stops with an error; it counts as wrong."""


class Values(NamedTuple):
    """The numbers of one answer by name, and the reason if it could not be read under the protocol."""

    metrics: dict[str, float]
    reason: str | None


def read_answer(sample: Sample, task: Task[Any, Any] | None) -> Any:
    """Return the answer that was read, as the task has it, boxes in pixels of the image.

    Raises:
        DataError: the sample does not have the form of its task.
    """
    match task:
        case Rec():
            return read_box(sample)
        case MultiRec():
            return read_boxes(sample)
        case Ovd():
            return read_objects(sample)
        case _:
            return sample.answer


def values_of(sample: Sample, protocol: Protocol, task: Task[Any, Any] | None, gold: Any, answer: Any) -> Values:
    """Measure one answer; docs/metrics.md defines the names.

    Args:
        task: that of the sample; None: unknown, so only what was judged counts.
        gold: its gold answer; unused if there is no task.
        answer: see `read_answer`.

    Raises:
        DataError: the sample does not have the form of its task.
    """
    match task:
        case Rec():
            return _of_box(sample, protocol, task, gold, answer)
        case MultiRec():
            given = _presence(sample, there=bool(gold), said=bool(answer))
            return Values({**sample.metrics, **given}, sample.reason)
        case Ovd():
            return _of_objects(sample, protocol, gold, answer)
        case _:
            counted = _count_errors(answer, gold) if sample.task == "counting" else {}
            return Values({**sample.metrics, **counted}, sample.reason)


def threshold_name(threshold: float) -> str:
    """Return the name of the accuracy at an IoU threshold.

    >>> threshold_name(0.5), threshold_name(0.55), threshold_name(0.125)
    ('accuracy_iou50', 'accuracy_iou55', 'accuracy_iou12.5')
    """
    return f"accuracy_iou{threshold * 100:.6g}"


def _of_box(sample: Sample, protocol: Protocol, task: Rec, gold: Box, box: Box | None) -> Values:
    if protocol.reading != "strict":
        overlap = official_overlap(sample, gold, protocol.reading)
        reason = OFFICIAL_FAILED if overlap is None else None
        return Values(_accuracies(overlap or 0.0, protocol), reason)
    reason = sample.reason
    if reason == "several_boxes" and protocol.several != "error":
        box = choose_box(sample, protocol.several, task)
        reason = reason if box is None else None
    overlap = 0.0 if box is None else iou(box, gold)
    return Values({**_accuracies(overlap, protocol), "centre_in_box": float(_hits(box, gold))}, reason)


def _accuracies(overlap: float, protocol: Protocol) -> dict[str, float]:
    reached = {
        threshold_name(at): float(overlap >= at if protocol.inclusive else overlap > at) for at in protocol.thresholds
    }
    return {**reached, "iou": overlap}


def _hits(box: Box | None, gold: Box) -> bool:
    if box is None:
        return False
    x, y = centre(box)
    return gold[0] <= x <= gold[2] and gold[1] <= y <= gold[3]


def _of_objects(sample: Sample, protocol: Protocol, gold: Objects, found: Objects) -> Values:
    if protocol.reading != "strict":
        names = {"map": "od_ap", "ap50": "od_ap50", "odlength": "od_length"}
        official = {name: official_value(sample, of) for name, of in names.items()}
        reason = OFFICIAL_FAILED if None in official.values() else None
        return Values({name: value or 0.0 for name, value in official.items()}, reason)
    f1 = set_f1(*_sides(found), *_sides(gold)) if sample.reason is None else 0.0
    presence = _presence(sample, there=bool(gold), said=bool(found))
    return Values({**sample.metrics, "f1_iou50": f1, **presence}, sample.reason)


def _sides(objects: Objects) -> tuple[list[Box], list[str]]:
    return [item.box for item in objects], [normalize_label(item.label) for item in objects]


def _presence(sample: Sample, *, there: bool, said: bool) -> dict[str, float]:
    """Return the terms of rejection recall (nothing was there) and rejection precision (the answer said so)."""
    rejected = sample.reason is None and not said
    recall = {} if there else {"rejection_recall": float(rejected)}
    return {**recall, "rejection_precision": float(not there)} if rejected else recall


def _count_errors(answer: Any, gold: int) -> dict[str, float]:
    """Return the errors of a count that could be read; of no count there is no error."""
    if not is_number(answer):
        return {}
    error = float(abs(answer - gold))
    return {"absolute_error": error, "relative_error": error / max(abs(gold), 1)}
