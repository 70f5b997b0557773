"""Parts of a data set by which results are split."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vlm_r1.evaluation.coco_matching import AREA_RANGES_PX2, MEDIUM, SMALL
from vlm_r1.evaluation.samples import Sample
from vlm_r1.geometry.boxes import area
from vlm_r1.runtime.text import json_text
from vlm_r1.types import IMAGE_TOKEN, Box

MOST_VALUES = 100
"""Values of a key that are told apart, the most frequent ones; all others are together in `OTHERS`."""

OTHERS = "(others)"

_OBJECTS = ((0, "0"), (1, "1"), (2, "2"), (3, "3"), (4, "4-7"), (8, "8+"))
_WORDS = ((0, "0"), (1, "1-3"), (4, "4-6"), (7, "7-10"), (11, "11-20"), (21, "21+"))
_SMALL_PX2, _MEDIUM_PX2 = AREA_RANGES_PX2[SMALL][1], AREA_RANGES_PX2[MEDIUM][1]


def subset_of(sample: Sample, gold_boxes: Sequence[Box] | None, keys: Sequence[str]) -> dict[str, str]:
    """Return the value of a record under each key.

    Args:
        gold_boxes: of its gold answer; None: its task has no boxes.
        keys: further keys of its line, e.g. ["platform"]. A record that lacks one has the value "(none)".

    Returns:
        box_size: COCO's small, medium or large if all gold boxes are so, else mixed, or none without a gold box;
        objects: number of gold boxes; words: length of the problem in words; source: its file; and those of `keys`.
    """
    there = {} if gold_boxes is None else {"box_size": _size(gold_boxes), "objects": _bin(len(gold_boxes), _OBJECTS)}
    words = len(sample.problem.replace(IMAGE_TOKEN, " ").split())
    own = {key: _written(sample.columns, key) for key in keys}
    return {**there, "words": _bin(words, _WORDS), "source": source_file(sample), **own}


def members_of(values_R: Sequence[Mapping[str, str]], keys: Sequence[str]) -> dict[str, dict[str, list[int]]]:
    """Return key → value → indices of the records; without keys that have one value for all, but for `keys`.

    Values are sorted by name, those of box_size, objects and words by size.
    """
    found: dict[str, dict[str, list[int]]] = {}
    for key in dict.fromkeys(key for values in values_R for key in values):
        counts = Counter(values[key] for values in values_R if key in values)
        kept = {value for value, _ in counts.most_common(MOST_VALUES)}
        members: dict[str, list[int]] = {value: [] for value in sorted(kept, key=_order)}
        for r, values in enumerate(values_R):
            if key in values:
                members.setdefault(values[key] if values[key] in kept else OTHERS, []).append(r)
        if len(members) > 1 or key in keys:
            found[key] = members
    return found


def source_file(sample: Sample) -> str:
    """Return the file of a record's line, e.g. "sets/val.jsonl" of "sets/val.jsonl:17"."""
    file, _, line = sample.source.rpartition(":")
    return file if line.isdecimal() and file else sample.source


def _size(boxes: Sequence[Box]) -> str:
    sizes = {bisect_right((_SMALL_PX2, _MEDIUM_PX2), area(box)) for box in boxes}
    return ("small", "medium", "large")[sizes.pop()] if len(sizes) == 1 else "mixed" if sizes else "none"


def _bin(count: int, bins: Sequence[tuple[int, str]]) -> str:
    return [name for least, name in bins if least <= count][-1]


def _written(columns: Mapping[str, Any], key: str) -> str:
    value: Any = columns.get(key)
    return "(none)" if value is None else value if isinstance(value, str) else json_text(value)


_SIZES = ("none", "small", "medium", "large", "mixed")
_NAMES = (_SIZES, *([name for _, name in bins] for bins in (_OBJECTS, _WORDS)))
_ORDER = {name: n for names in _NAMES for n, name in enumerate(names)}


def _order(value: str) -> tuple[bool, int, str]:
    return value == "(none)", _ORDER.get(value, 0), value
