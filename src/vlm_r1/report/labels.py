"""The table of labels of a detection run: what became of each kind of object between two evaluations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlm_r1.evaluation.measures import NO_PROTOCOL, measure_records
from vlm_r1.evaluation.measures_detection import label_table, make_set
from vlm_r1.evaluation.samples import Sample
from vlm_r1.report.drawing import LABEL_LIMIT
from vlm_r1.report.excerpt import visible
from vlm_r1.report.figures import number
from vlm_r1.report.held_out import HeldOut
from vlm_r1.report.tables import readable

MAX_LABELS = 60


@dataclass(frozen=True)
class LabelRow:
    """A label with its number of objects, and the values of the table's columns as text."""

    label: str
    objects: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Labels:
    """The table; `left_out` counts labels that have no row."""

    dataset: str
    columns: tuple[str, ...]
    rows: tuple[LabelRow, ...]
    left_out: int


def labels_of_run(sets: Sequence[HeldOut]) -> Labels | None:
    """Return the table of the first held-out set whose answers are labelled boxes; None if there is none.

    Raises:
        DataError: an answer does not have the form of its task.
    """
    for one in sets:
        moments = [one.moments[0], *one.moments[1:][-1:]]
        tables = [_table(moment.samples()) for moment in moments if moment.path is not None]
        if len(tables) == len(moments) and all(tables):
            return _labels(one, [moment.name for moment in moments], tables)
    return None


def _table(samples: Iterable[Sample]) -> Mapping[str, Mapping[str, Any]]:
    """Return AP, recall and objects by label; empty if the task is another one, or from outside."""
    wanted = [sample for sample in samples if sample.task == "ovd"]
    if not wanted:
        return {}
    answers = [answer for record in measure_records(wanted, NO_PROTOCOL) for answer in record.detected or ()]
    return {row["label"]: row for row in label_table(make_set(answers, NO_PROTOCOL.confidence))} if answers else {}


def _labels(one: HeldOut, names: Sequence[str], tables: Sequence[Mapping[str, Mapping[str, Any]]]) -> Labels:
    labels = [label for label, row in tables[-1].items() if row["gold"]]
    columns = [f"{what}, {name}" for what in ("AP", "found") for name in names]
    rows = [
        LabelRow(
            label=visible(label[:LABEL_LIMIT]),
            objects=f"{tables[-1][label]['gold']:,}",
            values=tuple(_text(table.get(label, {}).get(key), key) for key in ("ap", "recall") for table in tables),
        )
        for label in labels[:MAX_LABELS]
    ]
    return Labels(readable(visible(one.dataset[:LABEL_LIMIT])), tuple(columns), tuple(rows), len(labels[MAX_LABELS:]))


def _text(value: object, key: str) -> str:
    if not isinstance(value, int | float):
        return "–"
    return number(float(value), percent=key == "recall", decimals=0 if key == "recall" else 3)
