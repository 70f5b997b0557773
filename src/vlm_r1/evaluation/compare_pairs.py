"""Whether two results can be compared at all, and which answers belong together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlm_r1.errors import DataError
from vlm_r1.evaluation.compare_values import Pair, Result
from vlm_r1.evaluation.protocol import differences
from vlm_r1.evaluation.samples import Sample

_FOR_PEOPLE = ("name", "title", "data.set", "data.split", "data.records", "data.convert", "data.source")
"""Keys of a protocol that no number depends on. What the data are, says their hash."""

_MOST_NAMED = 10
_WORDS = {"task": "task", "problem": "problem", "gold": "gold answer"}


def check_protocols(first: Result, other: Result) -> None:
    """Refuse two results that were not measured alike. Those of trainings have no protocol, but what they were asked.

    Raises:
        DataError: the protocols differ, or task, template or data do; names the keys.
    """
    one, two = (result.summary.get("protocol") for result in (first, other))
    if (one is None) != (two is None):
        without = first if one is None else other
        raise DataError(
            f"{without.path}: has no protocol, as the held-out evaluations of a training, but the other result has "
            "one, so nobody knows whether both were measured alike. Measure both with `vlm-r1 eval`"
        )
    if one is None:
        one, two = _asked(first), _asked(other)
    changed = [line for line in differences(one, two) if line.partition(": ")[0] not in _FOR_PEOPLE]
    if changed:
        lines = "".join(f"\n  {line:.200}" for line in changed[:_MOST_NAMED])
        rest = f"\n  and {len(changed) - _MOST_NAMED} more" if len(changed) > _MOST_NAMED else ""
        raise DataError(
            f"{first.path} and {other.path}: were not measured alike, so their numbers cannot be compared. They differ "
            f"in these keys of the protocol:{lines}{rest}\nMeasure both by one protocol (docs/evaluation.md)"
        )


def _asked(result: Result) -> dict[str, Any]:
    """Return what is known of how a result without a protocol was measured."""
    return {
        "task": result.summary.get("task"),
        "template": sorted({sample.template for sample in result.samples}),
        "data": Path(str(result.summary.get("data"))).name,
    }


def pair_samples(first: Result, other: Result) -> list[Pair]:
    """Pair the samples of two results by record and draw, in the order of the first.

    Raises:
        DataError: a result has what the other has not, or a record's task, problem or gold answer differs.
    """
    ones, twos = dict(_keyed(first)), dict(_keyed(other))
    for mine, theirs, has, lacks in ((ones, twos, first, other), (twos, ones, other, first)):
        if alone := [sample for key, sample in mine.items() if key not in theirs]:
            raise DataError(
                f"{lacks.path}: lacks {len(alone):,} of the {len(mine):,} answers of {has.path}, the first one to "
                f"record {_named(alone[0])}. Wanted two results of the same records: measure both on the same file"
            )
    # the same data may lie in another place
    pairs = [Pair(one, replace(twos[key], source=one.source)) for key, one in ones.items()]
    for key, word in _WORDS.items():
        if changed := [pair for pair in pairs if getattr(pair.first, key) != getattr(pair.other, key)]:
            one, two = (getattr(sample, key) for sample in (changed[0].first, changed[0].other))
            raise DataError(
                f"{other.path}: {len(changed):,} of {len(pairs):,} answers have another {word} than in {first.path}, "
                f"the first one to record {_named(changed[0].first)}: {two!r:.100}, there {one!r:.100}. Wanted two "
                "results of the same data"
            )
    return pairs


def _keyed(result: Result) -> Iterator[tuple[tuple[str, int, int], Sample]]:
    """Yield each sample with what pairs it: record, draw, and which one it is of those with the same id."""
    seen: dict[tuple[str, int], int] = {}
    for sample in result.samples:
        key = (sample.record_id, sample.draw)
        seen[key] = seen.get(key, 0) + 1
        yield (*key, seen[key]), sample


def _named(sample: Sample) -> str:
    return f'"{sample.record_id:.80}" ({sample.source:.200})'
