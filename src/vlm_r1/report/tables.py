"""The page's tables: held-out results before and after, and the times of the phases."""

# pyright: standard

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlm_r1.report.figures import number
from vlm_r1.report.read import Estimate, Run, lookup
from vlm_r1.runtime.metrics_log import MetricsRow

_NAMES = {
    "accuracy_iou50": "accuracy at IoU 0.5",
    "accuracy_iou75": "accuracy at IoU 0.75",
    "accuracy_iou90": "accuracy at IoU 0.9",
    "mean_iou": "mean IoU",
    "iou": "mean IoU",
    "map": "per-image AP",
    "ap50": "per-image AP at IoU 0.5",
    "precision_iou50": "precision at IoU 0.5",
    "recall_iou50": "recall at IoU 0.5",
    "f1_iou50": "F1 at IoU 0.5",
    "all_right_iou50": "all boxes right at IoU 0.5",
    "centre_in_box": "centre in the box",
    "dataset_ap": "data-set AP",
    "dataset_ap50": "data-set AP at IoU 0.5",
    "nms_ap": "data-set AP after NMS",
    "nms_ap50": "data-set AP at IoU 0.5 after NMS",
    "gp": "GP",
    "gr": "GR",
    "format_rate": "format rate",
}
_CLAIMS = {
    "accuracy": "the answer is right",
    "accuracy_iou50": "the box is right (IoU above 0.5)",
    "accuracy_iou75": "the box is right (IoU above 0.75)",
    "accuracy_iou90": "the box is right (IoU above 0.9)",
    "all_right_iou50": "all boxes are right (IoU of at least 0.5)",
}
_LARGEST = 1e15
_IN_EVALUATIONS = {"mean_iou": "iou"}  # name in summary.json → name in eval/*.json, if they differ


@dataclass(frozen=True)
class Cell:
    """A value and its interval as text, and both as shares from 0 to 1 for the bar (None if outside)."""

    text: str
    interval: str
    at: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """One row of the before/after table; `better` is None if nothing changed or one side is missing."""

    dataset: str
    metric: str
    n: str
    before: Cell | None
    after: Cell | None
    difference: str
    better: bool | None


@dataclass(frozen=True)
class Phase:
    """Time and tokens of one phase, summed over steps; `share` is its share of the whole, from 0 to 1."""

    name: str
    seconds: str
    share: float
    tokens: str
    rate: str


def is_share(metric: str) -> bool:
    """Return whether a metric is a share of records, written in percent.

    >>> is_share("accuracy_iou50"), is_share("mean_iou")
    (True, False)
    """
    return metric.startswith(("accuracy", "all_right")) or metric.endswith(("_rate", "_acc"))


def readable(name: str) -> str:
    """Return a metric's name for people.

    >>> readable("accuracy_iou50"), readable("in_domain"), readable("accuracy_iou50_pass@4")
    ('accuracy at IoU 0.5', 'in domain', 'accuracy at IoU 0.5, pass@4')
    """
    of, _, draws = name.rpartition("_")
    if of and "@" in draws:
        return f"{readable(of)}, {draws}"
    return _NAMES.get(name, name.replace("_", " "))


def claim(metric: str) -> str:
    """Return what a share of records is a share of, as a clause.

    >>> claim("accuracy"), claim("format_rate")
    ('the answer is right', 'format rate holds')
    """
    return _CLAIMS.get(metric) or f"{readable(metric)} holds"


def capitalized(text: str) -> str:
    """Return a text with a capital first letter and the rest unchanged.

    >>> capitalized("mean IoU")
    'Mean IoU'
    """
    return text[:1].upper() + text[1:]


def compare(run: Run) -> list[Comparison]:
    """Compare before and after for each held-out set and metric of `summary.json`, in its order.

    Intervals come from the evaluation files, which have one for each metric. Without these files only the set's first
    metric has an interval, `ci95` of the summary.
    """
    sides = {moment: lookup(run.summary, moment) or {} for moment in ("before", "after")}
    datasets = dict.fromkeys([*sides["before"], *sides["after"]])
    rows = []
    for dataset in datasets:
        before, after = (_estimates(run, moment, dataset) for moment in ("before", "after"))
        n, overlong = (
            lookup(sides["after"], dataset, key) or lookup(sides["before"], dataset, key)
            for key in ("n", "overlong_prompts")
        )
        counted = f"{n:,}" if isinstance(n, int) else ""
        if isinstance(overlong, int):
            counted += f", without {overlong:,} whose prompts are too long"
        for metric in dict.fromkeys([*before, *after]):
            rows.append(comparison(dataset, metric, counted, before.get(metric), after.get(metric)))
    return rows


def run_phases(run: Run) -> list[Phase]:
    """Return seconds of the whole run by phase, from `summary.json`."""
    seconds = {name: s for name, s in (lookup(run.summary, "seconds") or {}).items() if _is_number(s)}
    total = math.fsum(seconds.values()) or 1.0
    return [Phase(readable(name), duration(s), s / total, "", "") for name, s in seconds.items()]


def step_phases(rows: Sequence[MetricsRow]) -> list[Phase]:
    """Sum seconds and tokens of a stage's steps by phase; the rest of `time/step_s` is "other"."""
    seconds = {name: s for name, s in _sums(rows, "time/", "_s").items() if "/" not in name}  # those are parts of score
    tokens = _sums(rows, "tokens/", "")
    whole = max(seconds.pop("step", 0.0), math.fsum(seconds.values()))
    if whole <= 0:
        return []
    rest = whole - math.fsum(seconds.values())
    if rest > 0.005 * whole:
        seconds["other"] = rest
    return [_phase(name, s, whole, tokens.get(name)) for name, s in seconds.items()]


def duration(seconds: float) -> str:
    """Format seconds for people.

    >>> [duration(s) for s in (0.25, 42.4, 189, 7380)]
    ['0.25 s', '42 s', '3 min 9 s', '2 h 3 min']
    """
    if seconds < 10:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _estimates(run: Run, moment: str, dataset: str) -> dict[str, Estimate]:
    values: Mapping[str, Any] = lookup(run.summary, moment, dataset) or {}
    evaluation = next((e for e in run.evaluations if e.moment == moment and e.dataset == dataset), None)
    metrics = evaluation.metrics if evaluation else {}
    estimates: dict[str, Estimate] = {}
    for name, value in values.items():
        if name in ("n", "overlong_prompts") or not _is_number(value):
            continue
        found = metrics.get(_IN_EVALUATIONS.get(name, name))
        interval = values.get("ci95") if found is None and not estimates else found and found.ci95
        estimates[name] = Estimate(float(value), (interval[0], interval[1]) if interval else None)
    return estimates


def comparison(dataset: str, metric: str, n: str, before: Estimate | None, after: Estimate | None) -> Comparison:
    """Return a row of the before/after table.

    Args:
        n: number of records as text.
    """
    percent, difference, better = is_share(metric), "", None
    if before and after:
        change = after.mean - before.mean
        better = change > 0 if change else None
        difference = f"{100 * change:+.1f} points" if percent else f"{change:+.3f}"
    return Comparison(
        dataset=readable(dataset),
        metric=readable(metric),
        n=n,
        before=before and cell(before, percent),
        after=after and cell(after, percent),
        difference=difference.replace("-", "−"),
        better=better,
    )


def cell(estimate: Estimate, percent: bool) -> Cell:
    """Return an estimate as text and as a bar."""
    low, high = estimate.ci95 or (estimate.mean, estimate.mean)
    interval = ""
    if estimate.ci95:
        interval = f"{100 * low:.1f} – {100 * high:.1f}" if percent else f"{low:.3f} – {high:.3f}"
    inside = 0 <= low <= high <= 1
    text = number(estimate.mean, percent, None if percent else 3)
    return Cell(text, interval, estimate.mean if inside else None, low, high)


def _phase(name: str, seconds: float, whole: float, tokens: float | None) -> Phase:
    rate = f"{tokens / seconds:,.0f}" if tokens and seconds else ""
    return Phase(readable(name), duration(seconds), seconds / whole, f"{tokens:,.0f}" if tokens else "", rate)


def _sums(rows: Sequence[MetricsRow], prefix: str, suffix: str) -> dict[str, float]:
    sums: dict[str, float] = {}
    for key, value in _numbers(rows):
        if key.startswith(prefix) and key.endswith(suffix):
            name = key.removeprefix(prefix).removesuffix(suffix)
            sums[name] = sums.get(name, 0.0) + value
    return sums


def _numbers(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, float]]:
    return ((key, value) for row in rows for key, value in row.items() if _is_number(value) and math.isfinite(value))


def _is_number(value: Any) -> bool:
    """Return whether a value is a number that can be shown; nothing that is measured is beyond 1e15."""
    return type(value) in (int, float) and abs(value) < _LARGEST
