"""Counts of judged answers: which is commonest, how many boxes there are, in which coordinates they would be right.

The answers come from groups (a run that trains), from rollout files or from samples of evaluations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from vlm_r1.doctor.boxes import boxes_in, overlaps
from vlm_r1.errors import VlmR1Error
from vlm_r1.evaluation.samples import Sample
from vlm_r1.parsing.tags import split_tags
from vlm_r1.runtime.rollout_log import RolloutRow
from vlm_r1.tasks import TASKS, get_task
from vlm_r1.tasks.judge import ACCURACY
from vlm_r1.types import AnswerValue, Box, BoxFormat, Group, ImageFrame, Record

N = TypeVar("N", int, float)

LOCATED = 32
"""Answers of a step whose boxes are compared with the truth. They are enough for a mean IoU, and cost 1 ms."""

_RIGHT = 0.99
_SHOWN = 60
_LARGEST_ANSWER = 20_000


@dataclass(frozen=True)
class Answers:
    """Counts over the answers of one step, or of several (`pool`).

    Attributes:
        n: answers.
        records: records that they are answers to.
        common: the commonest answers, as they were written, with how often.
        right: how many of these were right.
        unread: answers that could not be read, by reason.
        boxes: boxes in the answers that were read, and
        gold_boxes: in the gold answers of the same, as often as they were answered.
        located: answers whose boxes were compared with the truth.
        overlap: for each way to read coordinates, the sum over them of the mean IoU of a true box with its best box.
        box_format: the way they are read.
    """

    n: int = 0
    records: int = 0
    common: Mapping[str, int] = field(default_factory=dict[str, int])
    right: Mapping[str, int] = field(default_factory=dict[str, int])
    unread: Mapping[str, int] = field(default_factory=dict[str, int])
    boxes: int = 0
    gold_boxes: int = 0
    located: int = 0
    overlap: Mapping[str, float] = field(default_factory=dict[str, float])
    box_format: str = ""


@dataclass(frozen=True)
class Answered:
    """One answer, wherever it comes from. `gold_boxes` are pixels; None: the task has none, or is not ours."""

    record: str
    text: str
    answer: AnswerValue
    reason: str | None
    right: bool
    gold_boxes: tuple[Box, ...] | None
    frames: tuple[ImageFrame, ...]
    box_format: str


def count(answers: Iterable[Answered]) -> Answers:
    """Count answers."""
    everything = list(answers)
    read = [one for one in everything if one.reason is None]
    written = [_written(one.text) for one in read]
    common = dict(Counter(written).most_common(3))
    right = Counter(text for text, one in zip(written, read, strict=True) if one.right)
    pairs = [(boxes_in(one.answer), one.gold_boxes) for one in read if one.gold_boxes is not None]
    located = list(islice(_located(read), LOCATED))
    fits = [overlaps(boxes, gold, one.frames[0], BoxFormat(one.box_format)) for one, boxes, gold in located]
    return Answers(
        n=len(everything),
        records=len({one.record for one in everything}),
        common=common,
        right={text: right[text] for text in common},
        unread=Counter(one.reason for one in everything if one.reason is not None),
        boxes=sum(len(boxes) for boxes, _ in pairs),
        gold_boxes=sum(len(gold) for _, gold in pairs),
        located=len(located),
        overlap=_added(fits),
        box_format=located[0][0].box_format if located else "",
    )


def pool(several: Sequence[Answers]) -> Answers:
    """Add counts. Records are added too: the steps of a window draw different ones, but for the smallest data sets."""
    return Answers(
        n=sum(one.n for one in several),
        records=sum(one.records for one in several),
        common=_added([one.common for one in several]),
        right=_added([one.right for one in several]),
        unread=_added([one.unread for one in several]),
        boxes=sum(one.boxes for one in several),
        gold_boxes=sum(one.gold_boxes for one in several),
        located=sum(one.located for one in several),
        overlap=_added([one.overlap for one in several]),
        box_format=next((one.box_format for one in reversed(several) if one.box_format), ""),
    )


def _added(several: Sequence[Mapping[str, N]]) -> dict[str, N]:
    sums: dict[str, N] = {}
    for one in several:
        for name, value in one.items():
            sums[name] = sums[name] + value if name in sums else value
    return sums


def of_groups(groups: Sequence[Group]) -> Iterator[Answered]:
    """The answers of a step, from its groups: the first of each group, then the second of each, …"""
    gold = [_gold_boxes(group.record, trusted=True) for group in groups]
    for index in range(max((len(group.rollouts) for group in groups), default=0)):
        for number, group in enumerate(groups):
            if index < len(group.rollouts):
                yield _of_rollout(number, group, index, gold[number])


def _of_rollout(number: int, group: Group, index: int, gold: tuple[Box, ...] | None) -> Answered:
    score = group.rollouts[index].score
    return Answered(
        f"{number}",
        group.rollouts[index].completion.text,
        score.answer,
        score.reason,
        _is_right(score.parts, score.metrics),
        gold,
        group.encoded.frames,
        group.encoded.box_format.value,
    )


def of_rows(rows: Sequence[RolloutRow]) -> Iterator[Answered]:
    """The answers of a step, from its file, in the order of `of_groups`."""
    gold: dict[int, tuple[Box, ...] | None] = {}
    for row in sorted(rows, key=lambda row: (row.completion, row.group)):
        if row.group not in gold:
            record = Record(row.record_id, row.task, row.problem, row.images, row.gold, source=row.source)
            gold[row.group] = _gold_boxes(record)
        yield Answered(
            f"{row.group}",
            row.text,
            row.answer,
            row.reason,
            _is_right(row.parts, row.metrics),
            gold[row.group],
            tuple(map(ImageFrame, row.image_sizes, row.input_sizes)),
            row.box_format,
        )


def of_samples(samples: Iterable[Sample]) -> Iterator[Answered]:
    """The answers of an evaluation, from its samples."""
    for sample in samples:
        yield Answered(
            f"{sample.source} {sample.record_id}",
            sample.text,
            sample.answer,
            sample.reason,
            _is_right(sample.parts, sample.metrics),
            _gold_boxes(sample.record()),
            tuple(map(ImageFrame, sample.image_sizes, sample.input_sizes)),
            sample.box_format,
        )


def _written(text: str) -> str:
    """Return the answer as it was written, without its tags, and with single spaces."""
    tagged = split_tags(text[:_LARGEST_ANSWER])
    return " ".join((text if tagged.answer is None else tagged.answer).split())[:_SHOWN]


def _is_right(parts: Mapping[str, float | None], metrics: Mapping[str, float]) -> bool:
    """Return whether the accuracy reward is full; without it, the first metric of the task."""
    value = parts.get(ACCURACY)
    if value is None:
        value = next(iter(metrics.values()), 0.0)
    return value >= _RIGHT


def _gold_boxes(record: Record, trusted: bool = False) -> tuple[Box, ...] | None:
    """Return the true boxes; None if the task has none. A row of a file names no code: only tasks of ours are asked."""
    if not (trusted or record.task in TASKS):
        return None
    task: Any = get_task(record.task)
    try:
        placed = task.boxes(task.gold(record))
    except VlmR1Error:  # a file that somebody changed
        return None
    return tuple(one.box for one in placed) or (() if task.name in ("ovd", "multi_rec") else None)


def _located(read: Sequence[Answered]) -> Iterator[tuple[Answered, tuple[Box, ...], tuple[Box, ...]]]:
    """Yield the answers with boxes about one picture with boxes."""
    known = {member.value for member in BoxFormat}
    for one in read:
        usable = one.gold_boxes and len(one.frames) == 1 and one.box_format in known
        if usable and all(side > 0 for size in (one.frames[0].original_wh, one.frames[0].input_wh) for side in size):
            boxes = boxes_in(one.answer)
            if boxes and one.gold_boxes:
                yield one, boxes, one.gold_boxes
