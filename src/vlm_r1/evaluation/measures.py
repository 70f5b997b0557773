"""All numbers of an evaluation, computed from its samples alone. docs/metrics.md defines each.

Answers to one record count once, by their mean; answers about one picture are drawn together for the intervals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlm_r1.errors import DataError
from vlm_r1.evaluation.measures_detection import Answered, confusion, measure_aspects, measure_set
from vlm_r1.evaluation.measures_draws import over_draws
from vlm_r1.evaluation.measures_subsets import members_of, subset_of
from vlm_r1.evaluation.measures_values import Values, read_answer, values_of
from vlm_r1.evaluation.metrics import FloatArray, Summary, bootstrap_ci, ratio_ci
from vlm_r1.evaluation.protocol import DataSet, Protocol
from vlm_r1.evaluation.sample_answers import official_objects, task_of
from vlm_r1.evaluation.samples import Sample
from vlm_r1.tasks.ovd import Ovd
from vlm_r1.types import Box

NO_PROTOCOL = Protocol(name="none", title="The task's own metrics", data=DataSet(set="any"))
_SUBSET = "subset"
"""Key of a record that names the subset of an aspect, as the converter of OVDEval writes it; else the file's name."""


@dataclass(frozen=True)
class MeasuredRecord:
    """The answers to one record, in the order of their draws.

    Attributes:
        samples, values: of each answer.
        gold_boxes: None: its task has no boxes.
        detected: its answers if they are labelled boxes; None for other tasks.
    """

    samples: list[Sample]
    values: list[Values]
    gold_boxes: tuple[Box, ...] | None
    detected: list[Answered] | None


@dataclass(frozen=True)
class MetricTable:
    """The metrics of all records.

    Attributes:
        names: F names of metrics.
        values_RF: the mean over the draws of a record; NaN where it has no such metric.
        unit_R: number of what counts once: the record, or its object.
        picture_R: number of the picture or pictures that it is about.
    """

    names: list[str]
    values_RF: FloatArray
    unit_R: np.ndarray[Any, np.dtype[np.int64]]
    picture_R: np.ndarray[Any, np.dtype[np.int64]]

    def summarize(self, records: Sequence[int] | None, seed: int) -> dict[str, Summary]:
        """Return mean, interval and number of each metric over some of the records, or over all."""
        index = np.arange(len(self.unit_R)) if records is None else np.array(records, dtype=np.int64)
        found: dict[str, Summary] = {}
        for name, column_R in zip(self.names, self.values_RF[index].T, strict=True):
            has = ~np.isnan(column_R)
            if has.any():
                found[name] = _summary(column_R[has], self.unit_R[index][has], self.picture_R[index][has], seed)
        return found


def measure(samples: Sequence[Sample], protocol: Protocol | None, *, seed: int) -> dict[str, Any]:
    """Measure the answers of an evaluation.

    Args:
        samples: at least one; with several draws, those of all records.
        protocol: how; None: by the task's own metrics.
        seed: of the intervals.

    Returns:
        The keys metrics, unmeasured, format_rate, parse_failures, rates, lengths, truncated and subsets; of detection
        also classes, confusion and dataset. All values can be written as JSON.

    Raises:
        DataError: there are no samples, one is there twice, or does not have the form of its task.
    """
    protocol = protocol or NO_PROTOCOL
    records = measure_records(samples, protocol)
    table = make_table(records, protocol)
    summaries, detection = table.summarize(None, seed), _detection(records, protocol, seed)
    summaries |= detection.pop("summaries", {})
    order = dict.fromkeys([*(name for name in protocol.metrics if name in summaries), *summaries])
    subsets = split_records(records, protocol)
    return {
        "metrics": {name: _written(summaries[name]) for name in order},
        "unmeasured": [name for name in protocol.metrics if name not in summaries],
        **_rates(records, seed),
        "subsets": {
            key: {
                value: {
                    "n": len(members),
                    "metrics": {name: _written(own) for name, own in table.summarize(members, seed).items()},
                }
                for value, members in values.items()
            }
            for key, values in subsets.items()
        },
        **detection,
    }


def summarize_judged(samples_R: Sequence[Sequence[Sample]], *, seed: int) -> dict[str, Summary]:
    """Return mean, interval and number of each metric that judging gave, and pass@k and majority@k of k draws.

    Nothing is read again from the texts, so the names are those of an evaluation with one answer.

    Args:
        samples_R: for each record its answers, in the order of their draws, equally many for each.
        seed: of the intervals.
    """
    records = [
        MeasuredRecord(list(own), [Values(dict(sample.metrics), sample.reason) for sample in own], None, None)
        for own in samples_R
    ]
    return make_table(records, NO_PROTOCOL).summarize(None, seed)


def split_records(records: Sequence[MeasuredRecord], protocol: Protocol) -> dict[str, dict[str, list[int]]]:
    """Return the subsets: key → value → indices of the records."""
    values = [subset_of(record.samples[0], record.gold_boxes, protocol.subsets_by) for record in records]
    return members_of(values, protocol.subsets_by)


# ---- records -------------------------------------------------------------------------------------------------------


def measure_records(samples: Iterable[Sample], protocol: Protocol) -> list[MeasuredRecord]:
    """Sort the answers by their record, in the order of the records, and measure each."""
    found: dict[tuple[str, str], dict[int, Sample]] = {}
    for sample in samples:
        draws = found.setdefault((sample.source, sample.record_id), {})
        if sample.draw in draws:
            raise DataError(
                f"{sample.source}: the samples hold answer {sample.draw} to record {sample.record_id!r:.80} twice; "
                "wanted each once"
            )
        draws[sample.draw] = sample
    if not found:
        raise DataError("there are no samples, so there is nothing to measure")
    return [_record([draws[draw] for draw in sorted(draws)], protocol) for draws in found.values()]


def _record(samples: list[Sample], protocol: Protocol) -> MeasuredRecord:
    for other in samples[1:]:
        if (other.task, other.gold, other.images) != (samples[0].task, samples[0].gold, samples[0].images):
            raise DataError(
                f"{other.source}: answers {samples[0].draw} and {other.draw} to record {other.record_id!r:.80} have "
                "another task, gold answer or image; wanted those of one record"
            )
    task = task_of(samples[0], protocol.task)
    gold: Any = None if task is None else task.gold(samples[0].record())
    boxes = () if task is None else tuple(placed.box for placed in task.boxes(gold))
    has_boxes = bool(boxes) or (task is not None and task.name in ("ovd", "multi_rec"))
    answers = [read_answer(sample, task) for sample in samples]
    values = [values_of(own, protocol, task, gold, answer) for own, answer in zip(samples, answers, strict=True)]
    picture = samples[0].image_key
    detected = None
    if isinstance(task, Ovd):
        as_read = answers if protocol.reading == "strict" else [official_objects(own, gold) for own in samples]
        detected = [Answered(gold, objects, picture) for objects in as_read]
    return MeasuredRecord(samples, values, boxes if has_boxes else None, detected)


def make_table(records: Sequence[MeasuredRecord], protocol: Protocol) -> MetricTable:
    k = min(len(record.samples) for record in records)
    rows: list[dict[str, float]] = []
    for record in records:
        metrics = [own.metrics for own in record.values]
        more = over_draws(record.samples, metrics, k) if k > 1 else {}
        rows.append({**_mean_of(metrics), **more})
    names = list(dict.fromkeys(name for row in rows for name in row))
    values_RF = np.array([[row.get(name, np.nan) for name in names] for row in rows], dtype=np.float64)
    units = [_unit(r, record, protocol) for r, record in enumerate(records)]
    pictures = [record.samples[0].image_key for record in records]
    return MetricTable(names, values_RF, _numbered(units), _numbered(pictures))


def _mean_of(metrics: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """Return the mean of each metric over the answers that have it."""
    if len(metrics) == 1:
        return metrics[0]
    columns: dict[str, list[float]] = {}
    for own in metrics:
        for name, value in own.items():
            columns.setdefault(name, []).append(value)
    return {name: sum(values) / len(values) for name, values in columns.items()}


def _unit(number: int, record: MeasuredRecord, protocol: Protocol) -> Hashable:
    """Return what counts once: at level object, all records with the same images and gold boxes."""
    if protocol.level == "expression" or not record.gold_boxes:
        return number
    return record.samples[0].image_key, tuple(sorted(record.gold_boxes))


def _numbered(things: Sequence[Hashable]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Number things in the order in which they first occur."""
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(thing, len(number)) for thing in things], dtype=np.int64)


def _summary(values_N: FloatArray, unit_N: Any, picture_N: Any, seed: int) -> Summary:
    _, first_U, unit_N = np.unique(unit_N, return_index=True, return_inverse=True)
    values_U = np.bincount(unit_N, values_N) / np.bincount(unit_N)
    _, picture_U = np.unique(picture_N[first_U], return_inverse=True)
    sums_M, counts_M = np.bincount(picture_U, values_U), np.bincount(picture_U)
    return Summary(float(values_U.mean()), ratio_ci(sums_M, counts_M, seed=seed), len(values_U))


# ---- parts of the result -------------------------------------------------------------------------------------------


def _rates(records: Sequence[MeasuredRecord], seed: int) -> dict[str, Any]:
    """Return form, parse failures, lengths and truncated answers, over all answers."""
    samples = [sample for record in records for sample in record.samples]
    reasons = [own.reason for record in records for own in record.values]
    pictures = [sample.image_key for sample in samples]
    failures = Counter(reason for reason in reasons if reason is not None)
    formats = [(value, sample.image_key) for sample in samples if (value := sample.parts.get("format")) is not None]
    truncated = [sample.stop_reason == "length" for sample in samples]
    tokens = [sample.tokens for sample in samples]
    events = {
        "truncated": truncated,
        "unreadable": [reason is not None for reason in reasons],
        **{f"unreadable_{name}": [reason == name for reason in reasons] for name in failures},
    }
    rates = {name: _rate([float(happened) for happened in own], pictures, seed) for name, own in events.items()}
    if formats:
        form = _rate([value for value, _ in formats], [picture for _, picture in formats], seed)
        rates = {"format": form, **rates}
    return {
        "format_rate": rates["format"]["mean"] if formats else None,
        "parse_failures": dict(failures.most_common()),
        "rates": rates,
        "lengths": {"mean": float(np.mean(tokens)), "median": float(np.median(tokens)), "max": max(tokens)},
        "truncated": sum(truncated),
    }


def _rate(values: Sequence[float], pictures: Sequence[Hashable], seed: int) -> dict[str, Any]:
    ci95 = bootstrap_ci(values, clusters_N=pictures, seed=seed)
    return _written(Summary(float(np.mean(values)), ci95, len(values)))


def _detection(records: Sequence[MeasuredRecord], protocol: Protocol, seed: int) -> dict[str, Any]:
    """Return what there is of detection beside the metrics of each record; nothing if no record is of that kind."""
    detected = [(record.samples[0], record.detected) for record in records if record.detected is not None]
    if not detected:
        return {}
    k = min(len(answers) for _, answers in detected)
    numbers, summaries, classes = measure_set(
        _draws([answers for _, answers in detected], k), protocol.confidence, seed
    )
    dataset: dict[str, Any] = dict(numbers)
    if protocol.aspects:
        parts: dict[str, list[list[Answered]]] = {}
        for sample, answers in detected:
            parts.setdefault(_subset(sample), []).append(answers)
        subsets = {name: _draws(part, k) for name, part in parts.items()}
        table, overall = measure_aspects(subsets, protocol.aspects, protocol.confidence, seed)
        dataset |= {"overall": None if overall is None else overall.mean, "aspects": table}
        summaries = summaries if overall is None else {"overall": overall, **summaries}
    return {
        "summaries": summaries,
        "classes": classes,
        "confusion": confusion([one for _, answers in detected for one in answers]),
        "dataset": dataset,
    }


def _draws(answers: Sequence[Sequence[Answered]], k: int) -> list[list[Answered]]:
    """Return the first answers to all records, the second ones, …"""
    return [[own[draw] for own in answers] for draw in range(k)]


def _subset(sample: Sample) -> str:
    named: Any = sample.columns.get(_SUBSET)
    return named if isinstance(named, str) else sample.source.rpartition(":")[0].rpartition("/")[2].partition(".")[0]


def _written(summary: Summary) -> dict[str, Any]:
    return {"mean": summary.mean, "ci95": list(summary.ci95), "n": summary.n}
