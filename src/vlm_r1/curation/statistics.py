"""Statistics and probable mistakes of a data set, for `data check`: fields, coordinates, duplicates, leakage."""

# pyright: standard

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from vlm_r1.parsing.json_values import LARGEST
from vlm_r1.types import IMAGE_TOKEN, AnswerValue, Box, Record

_ENOUGH_BOXES = 20
"""Least number of boxes for a guess: the greatest of a few numbers says little."""


@dataclass(frozen=True)
class Field:
    """One field or column over all records.

    Attributes:
        name: e.g. "answer".
        present: number of records that have it.
        kinds: its commonest kinds with their counts, e.g. "list (1200), text (3)".
        values: number of different values.
        summary: the most useful of: lengths of texts, range of numbers, commonest values.
    """

    name: str
    present: int
    kinds: str
    values: int
    summary: str


def describe_fields(records: Sequence[Record]) -> list[Field]:
    """Return statistics of the fields that people write, then of every other column."""
    values: dict[str, list[AnswerValue]] = defaultdict(list)
    for record in records:
        values["id"].append(record.id)
        values["problem"].append(record.problem)
        values["images"].append(len(record.images))
        values["answer"].append(record.answer)
        values["earlier turns"] += [len(record.history)] if record.history else []
        for name in ("thought", "reward"):
            values[name] += [getattr(record, name)] if getattr(record, name) is not None else []
        for name, value in record.columns.items():
            values[name].append(value)
    return [_describe(name, found) for name, found in values.items() if found]


def _describe(name: str, found: Sequence[AnswerValue]) -> Field:
    keys = [value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str) for value in found]
    counts = Counter(keys)
    numbers = [number for value in found if (number := _as_float(value)) is not None]
    if len(numbers) == len(found) and len(counts) > 8:
        summary = f"{min(numbers):.6g} to {max(numbers):.6g}, mean {math.fsum(numbers) / len(numbers):.6g}"
    elif len(counts) <= 8 or counts.most_common(1)[0][1] > len(found) / 20:
        summary = ", ".join(f"{_short(key)} ({n})" for key, n in counts.most_common(4))
    else:
        lengths = sorted(map(len, keys))
        summary = f"{lengths[0]} to {lengths[-1]} characters, median {lengths[len(lengths) // 2]}"
    kinds = ", ".join(f"{kind} ({n})" for kind, n in Counter(map(kind_of, found)).most_common(4))
    return Field(name, len(found), kinds, len(counts), summary)


def _as_float(value: object) -> float | None:
    """Return a number that a float can hold; truth values are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < LARGEST else None  # sums of larger ones overflow


def kind_of(value: AnswerValue) -> str:
    """Name the kind of a value: text, number, boolean, list, object or null."""
    names = {str: "text", bool: "boolean", int: "number", float: "number", list: "list", dict: "object"}
    return names.get(type(value), "null")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 40 else f"{line[:39]}…"


def guess_coordinates(boxes: Sequence[tuple[Box, tuple[int, int]]]) -> str | None:
    """Guess the true form of boxes that are read as xyxy in pixels; None if they look like it.

    Args:
        boxes: numbers as written, each with the (width, height) of its upright image.

    >>> guess_coordinates([((0.1, 0.2, 0.5, 0.6), (640, 480))] * 20)
    'the boxes look normalised to 0-1 (the greatest number is 0.6): set coordinates: norm_1'
    """
    if not boxes:
        return None
    greatest = max(max(box) for box, _ in boxes)
    fractions = any(0 < edge < 1 for box, _ in boxes for edge in box)
    if len(boxes) < _ENOUGH_BOXES and not (greatest <= 1 and fractions):
        return _as_width_and_height(boxes, 0, 1)
    width, height = (max(wh[axis] for _, wh in boxes) for axis in (0, 1))
    if greatest <= 1:
        return f"the boxes look normalised to 0-1 (the greatest number is {greatest:.6g}): set coordinates: norm_1"
    outside = _share(boxes, lambda box, wh: box[2] > wh[0] + 1 or box[3] > wh[1] + 1)
    as_yx = _share(boxes, lambda box, wh: box[3] <= wh[0] + 1 and box[2] <= wh[1] + 1)
    if advice := _as_width_and_height(boxes, 0.05, 0.99):
        return advice
    if outside > 0.01 and as_yx > 0.99:
        return f"the boxes look like y1, x1, y2, x2 ({outside:.0%} leave their images as x first): swap the axes"
    of_1000 = "set coordinates: norm_1000"
    if outside > 0.05 and 500 < greatest <= 1000:
        return (
            f"the boxes look 0-1000 (the greatest number is {greatest:.6g}, and {outside:.0%} leave their images of "
            f"at most {width} x {height} px): {of_1000}"
        )
    if 950 <= greatest <= 1000 and min(width, height) >= 1200:
        return (
            f"the boxes look 0-1000 (no number of {4 * len(boxes)} is above {greatest:.6g}, but the images have up to "
            f"{width} x {height} px): {of_1000}"
        )
    return None


def _as_width_and_height(
    boxes: Sequence[tuple[Box, tuple[int, int]]], disordered_over: float, fitting_from: float
) -> str | None:
    """Return advice if boxes look like x, y, width, height: many are out of order and most fit so, or some and all."""
    disordered = _share(boxes, lambda box, wh: box[0] >= box[2] or box[1] >= box[3])
    as_wh = _share(boxes, lambda box, wh: box[0] + box[2] <= wh[0] + 1 and box[1] + box[3] <= wh[1] + 1)
    if not disordered or as_wh < fitting_from or (disordered <= disordered_over and as_wh < 1):
        return None
    return (
        f"the boxes look like x, y, width, height ({disordered:.0%} have x1 >= x2 or y1 >= y2, and {as_wh:.0%} fit "
        "their images that way): set box: xywh, or write x1, y1, x2, y2"
    )


def _share(boxes: Sequence[tuple[Box, tuple[int, int]]], test: Callable[[Box, tuple[int, int]], bool]) -> float:
    return sum(test(box, wh) for box, wh in boxes) / len(boxes)


def find_duplicates(records: Iterable[Record], hashes: Mapping[str, str]) -> list[str]:
    """Return sentences about records that repeat or contradict one another on the same pictures.

    Args:
        hashes: path of an image → hash of its pixels (`image_hash`); a missing path counts as its own hash.
    """
    by_question: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    by_id: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        pictures = tuple(hashes.get(path, path) for path in record.images)
        said = [*(turn.text for turn in record.history), record.problem]
        words = (" ".join(text.replace(IMAGE_TOKEN, " ").split()) for text in said)
        by_question[(*words, *pictures)].append(record)
        by_id[record.id].append(record)
    same: list[list[Record]] = []
    contrary: list[list[Record]] = []
    for group in by_question.values():
        if len(group) > 1:
            answers = {json.dumps(record.answer, sort_keys=True) for record in group}
            (same if len(answers) == 1 else contrary).append(group)
    shared_ids = [group for group in by_id.values() if len(group) > 1]
    kinds = (
        ("asked more than once on the same pictures, with the same answer", same),
        ("asked more than once on the same pictures, with different answers", contrary),
        ("share their id", shared_ids),
    )
    return [f"{sum(map(len, groups))} records {what}: {_examples(groups)}" for what, groups in kinds if groups]


def find_leakage(
    records: Iterable[Record], hashes: Mapping[str, str], others: Iterable[Record], other_hashes: Mapping[str, str]
) -> str | None:
    """Return a sentence about records whose pictures are in another file too; None if there are none.

    Args:
        hashes, other_hashes: hashes of this file and of the other, as in `find_duplicates`.
    """
    known = {other_hashes[path]: record for record in others for path in record.images if path in other_hashes}
    shared = [
        (record, known[hashes[path]]) for record in records for path in record.images if hashes.get(path) in known
    ]
    if not shared:
        return None
    pictures = {hashes[path] for record, _ in shared for path in record.images if hashes.get(path) in known}
    record, other = shared[0]
    n_records = len({record.source for record, _ in shared})
    return f"{len(pictures)} pictures, of {n_records} records, stand in both, e.g. {record.source} and {other.source}"


def _examples(groups: Sequence[Sequence[Record]]) -> str:
    shown = ["; ".join(record.source for record in group[:3]) for group in groups[:3]]
    return " | ".join(shown) + (" | …" if len(groups) > 3 else "")
