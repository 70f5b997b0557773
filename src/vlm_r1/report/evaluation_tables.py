"""The tables of an evaluation's page, from the numbers of its result; what is of another kind is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vlm_r1.parsing.json_values import is_list, is_number, is_object
from vlm_r1.report.drawing import LABEL_LIMIT
from vlm_r1.report.excerpt import visible
from vlm_r1.report.figures import number
from vlm_r1.report.read import Estimate
from vlm_r1.report.tables import Cell, cell, is_share, readable

MAX_ROWS = 40  # values of one key that have a row
MAX_CLASSES = 1500
MATRIX_LABELS = 12
MAX_MISTAKES = 15

_CLASS_NUMBERS = ("ap", "ap50", "precision", "recall")


@dataclass(frozen=True)
class Row:
    """A name with its number of records and its estimate."""

    name: str
    n: str
    value: Cell


@dataclass(frozen=True)
class SubsetTable:
    """The main metric by the values of one key; `left_out` counts the values that have no row."""

    key: str
    rows: tuple[Row, ...]
    left_out: int


@dataclass(frozen=True)
class ClassRow:
    """A label: how many objects there are and how many were claimed, then AP, AP50, precision and recall as text."""

    label: str
    gold: str
    predicted: str
    numbers: tuple[str, ...]
    ap: float


@dataclass(frozen=True)
class Matrix:
    """How often a label (row) was answered as another (column).

    Attributes:
        columns: labels, then "(missed)".
        rows: a label, the last one "(not there)", and for each column the count and its share of the row, from 0 to 1.
        n_labels: how many labels there are; `columns` has the most frequent ones.
        mistakes: "car → truck" and how often, the commonest first.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[int, float], ...]], ...]
    n_labels: int
    mistakes: tuple[tuple[str, int], ...]


def metric_rows(metrics: object) -> list[Row]:
    """Return a row for each metric of a result.

    >>> [(row.name, row.n, row.value.text) for row in metric_rows({"iou": {"mean": 0.5, "ci95": [0.4, 0.6], "n": 9}})]
    [('mean IoU', '9', '0.500')]
    """
    found = _items(metrics)
    rows = [_row(readable(name), name, content) for name, content in found]
    return [row for row in rows if row is not None][:MAX_ROWS]


def first_metric(metrics: object) -> str:
    """Return the name of the first metric of a result that is a number; "" if there is none."""
    return next((name for name, content in _items(metrics) if estimate(content) is not None), "")


def estimate(content: object) -> Estimate | None:
    """Return `{"mean": …, "ci95": [low, high]}` as an estimate; None if it is none."""
    mean: Any = content.get("mean") if is_object(content) else None
    if not is_object(content) or not is_number(mean):
        return None
    ends: Any = content.get("ci95")
    known = is_list(ends) and len(ends) == 2 and all(is_number(end) for end in ends)
    return Estimate(float(mean), (float(ends[0]), float(ends[1])) if known else None)


def subset_tables(subsets: object, main: str) -> list[SubsetTable]:
    """Return a table of the main metric for each key by which a result is split, its values in their order.

    Values of a key without the main metric, e.g. `t_acc` where nothing is there, are left out.
    """
    tables: list[SubsetTable] = []
    for key, values in _items(subsets):
        rows: list[Row] = []
        for value, content in _items(values):
            metrics: Any = content.get("metrics") if is_object(content) else None
            inner: Any = metrics.get(main) if is_object(metrics) else None
            row = _row(_name(value), main, inner, content.get("n") if is_object(content) else None)
            rows += [row] if row is not None else []
        if rows:
            tables.append(SubsetTable(readable(_name(key)), tuple(rows[:MAX_ROWS]), max(0, len(rows) - MAX_ROWS)))
    return tables[:MAX_ROWS]


def class_rows(classes: object) -> list[ClassRow]:
    """Return a row for each label, the lowest AP first."""
    rows: list[ClassRow] = []
    for content in classes if is_list(classes) else ():
        if is_object(content) and "label" in content:
            numbers = tuple(_decimals(content.get(key)) for key in _CLASS_NUMBERS)
            ap: Any = content.get("ap")
            counts = (_count(content.get("gold")), _count(content.get("predicted")))
            rows.append(ClassRow(_name(str(content["label"])), *counts, numbers, float(ap) if is_number(ap) else 2.0))
    return sorted(rows, key=lambda row: (row.ap, row.label))


def confusion_matrix(triples: object) -> Matrix | None:
    """Return the matrix of `[gold label | null, answered label | null, count]`; None if there is none.

    >>> matrix = confusion_matrix([["car", "car", 3], ["car", "bus", 1], [None, "car", 2], ["bus", None, 4]])
    >>> matrix.columns, matrix.rows[0]
    (('car', 'bus', '(missed)'), ('car', ((3, 0.75), (1, 0.25), (0, 0.0))))
    >>> matrix.mistakes
    (('bus → (missed)', 4), ('(not there) → car', 2), ('car → bus', 1))
    """
    counts = Counter(dict(_counted(triples)))
    totals: Counter[str] = Counter()
    for pair, count in counts.items():
        for label in dict.fromkeys(one for one in pair if one is not None):
            totals[label] += count
    labels: list[str | None] = [label for label, _ in totals.most_common(MATRIX_LABELS)]
    if not labels:
        return None
    mistakes = [
        (f"{gold or '(not there)'} → {seen or '(missed)'}", n) for (gold, seen), n in counts.items() if gold != seen
    ]
    rows = tuple(_matrix_row(gold, [*labels, None], counts) for gold in [*labels, None])
    return Matrix(
        columns=tuple(label or "(missed)" for label in [*labels, None]),
        rows=rows,
        n_labels=len(totals),
        mistakes=tuple(sorted(mistakes, key=lambda item: (-item[1], item[0]))[:MAX_MISTAKES]),
    )


def set_statistics(dataset: object) -> list[tuple[str, str, str]]:
    """Return a statistic over the whole set, its number, and its number after non-maximum suppression; "–": none.

    >>> set_statistics({"ap": 0.5, "ap_small": -1.0, "nms_ap": 0.25, "gp": 1.0})
    [('AP', '0.500', '0.250'), ('AP small', '–', '–'), ('GP', '1.000', '–')]
    """
    numbers = {key: float(value) for key, value in _items(dataset) if is_number(value)}
    names = dict.fromkeys(key.removeprefix("nms_") for key in numbers)
    return [(_statistic(one), _decimals(numbers.get(one)), _decimals(numbers.get(f"nms_{one}"))) for one in names]


def counts_of(failures: object) -> list[tuple[str, int]]:
    """Return reasons with their counts, the commonest first."""
    found = [(_name(key), int(value)) for key, value in _items(failures) if is_number(value)]
    return sorted(found, key=lambda item: -item[1])[:MAX_ROWS]


def _matrix_row(
    gold: str | None, columns: Iterable[str | None], counts: Mapping[tuple[str | None, str | None], int]
) -> tuple[str, tuple[tuple[int, float], ...]]:
    found = [counts.get((gold, seen), 0) for seen in columns]
    total = sum(found) or 1
    return gold or "(not there)", tuple((count, count / total) for count in found)


def _counted(triples: object) -> Iterable[tuple[tuple[str | None, str | None], int]]:
    for triple in triples if is_list(triples) else ():
        if is_list(triple) and len(triple) == 3 and isinstance(triple[2], int):
            gold, seen = (None if label is None else _name(str(label)) for label in triple[:2])
            yield (gold, seen), triple[2]


def _row(name: str, metric: str, content: object, n: object = None) -> Row | None:
    found = estimate(content)
    if found is None:
        return None
    own: Any = content.get("n") if is_object(content) else None
    return Row(_name(name), _count(own if n is None else n), cell(found, is_share(metric)))


def _items(value: object) -> list[tuple[str, Any]]:
    return list(value.items()) if is_object(value) else []


def _name(text: str) -> str:
    return visible(text[:LABEL_LIMIT])


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and is_number(value) else ""


def _decimals(value: object) -> str:
    """A number, or "–" if there is none; COCO writes -1 where there are no such objects."""
    return number(float(value), decimals=3) if is_number(value) and value >= 0 else "–"


def _statistic(name: str) -> str:
    """The name of a statistic as papers write it, e.g. "AP50" and "AR small"."""
    first, _, rest = _name(name).partition("_")
    return f"{first.upper()} {rest.replace('_', ' ')}".strip()
