"""A comparison of evaluations as one offline page: the difference in a sentence, and what changed, drawn in pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_r1.data.image_paths import ImagePaths
from vlm_r1.evaluation.compare_values import Comparison, Difference, Pair, Result, Versus, WholeDifference
from vlm_r1.evaluation.samples import Sample
from vlm_r1.report.answer_cards import Card, card
from vlm_r1.report.answers import at_quantiles, quality
from vlm_r1.report.answers_page import (
    appendix,
    bounded,
    command_of,
    images_beside,
    provenance_of,
    short_text,
    show,
    write_page,
)
from vlm_r1.report.drawing import LABEL_LIMIT
from vlm_r1.report.excerpt import Excerpt, visible
from vlm_r1.report.figures import number
from vlm_r1.report.pictured import CHANGES
from vlm_r1.report.read import lookup
from vlm_r1.report.tables import capitalized, is_share, readable
from vlm_r1.runtime.text import writable

_BETTER, _WORSE, _SAME = "better", "worse", "neither better nor worse"


@dataclass(frozen=True)
class DifferenceRow:
    """A difference as text; `low`, `at` and `high` are its interval and itself, bounded to −1 and 1, for the bar."""

    name: str
    n: str
    first: str
    other: str
    difference: str
    interval: str
    p: str
    better: str
    worse: str
    rises: bool | None
    low: float
    at: float
    high: float


@dataclass(frozen=True)
class Against:
    """One result against the first: a sentence, cards at fixed quantiles of the change, and tables.

    A row of `whole` is a number that is no mean over records: its name, both values, their difference and its interval.
    """

    name: str
    headline: str
    cards: tuple[Card, ...]
    metrics: tuple[DifferenceRow, ...]
    whole: tuple[tuple[str, str, str, str, str], ...]
    subsets: tuple[tuple[str, tuple[DifferenceRow, ...]], ...]


@dataclass(frozen=True)
class Source:
    """Where a result comes from."""

    label: str
    facts: tuple[tuple[str, str], ...]
    command: str
    provenance: Excerpt | None


def build_comparison_page(comparison: Comparison, out: Path, images: ImagePaths | None = None) -> Path:
    """Atomically write the page of a comparison.

    Args:
        comparison: from `compare_results`.
        out: the file to write.
        images: the folders and addresses that pictures may be read from, from `image_paths`; by default the folders of
            the results, and those of their runs. A picture that lies elsewhere is replaced by a note.

    Returns:
        `out`: one file, which needs no network.

    Raises:
        CheckpointError: the page cannot be written.
    """
    results = [comparison.first, *(versus.other for versus in comparison.others)]
    images = bounded(images or images_beside([result.path for result in results]))
    main = comparison.main
    answers = [_sides(comparison.first, versus, pair) for versus in comparison.others for pair in versus.pairs]
    groups: dict[str, list[int]] = {}
    cards: list[dict[str, int]] = []
    start = 0
    for versus in comparison.others:
        found = changes(versus.pairs, main)
        prefix = f"{_label(versus.other)}: " if len(comparison.others) > 1 else ""
        groups |= {prefix + name: places for name, places in _by_direction(found, start).items()}
        order = sorted(range(len(found)), key=lambda place: found[place], reverse=True)
        cards.append({name: start + place for name, place in at_quantiles(order).items()})
        start += len(versus.pairs)
    closed = {name for name in groups if name.endswith(_SAME)}
    chosen = {place for places in cards for place in places.values()}
    shown = show(answers, groups, chosen, set(groups) - closed, main=main, images=images)
    against = [
        _against(comparison.first, versus, main, _cards(places, shown.kept, main, images))
        for versus, places in zip(comparison.others, cards, strict=True)
    ]
    return write_page(
        "comparison_page.html.jinja",
        out,
        name=out.stem,
        title=f"{_label(comparison.first)} → {', '.join(_label(versus.other) for versus in comparison.others)}",
        first=_label(comparison.first),
        measured=[(name, value) for name, value in _measured(comparison) if value],
        against=against,
        counted=comparison.counted,
        main=readable(main),
        has_boxes=any(card.has_boxes for one in against for card in one.cards),
        shown=shown,
        sources=[_source(result) for result in results],
        protocol=appendix(writable(comparison.first.summary.get("protocol"))),
    )


def headline(first: str, other: str, difference: Difference) -> str:
    """Return a difference of two results as a sentence.

    >>> means = (264 / 512, 327 / 512, 63 / 512, (0.081, 0.164))
    >>> found = Difference("accuracy", 512, 512, *means, 1e-6, 1e-4, 110, 47, 355)
    >>> headline("A", "B", found)
    'B is right on 327 of 512, A on 264: +12.3 points [8.1, 16.4], 110 better, 47 worse.'
    """
    changed = f"{difference.better:,} better, {difference.worse:,} worse"
    apart, interval = _difference(difference.metric, difference.difference, difference.ci95)
    if is_share(difference.metric):
        right = [f"{round(mean * difference.n):,}" for mean in (difference.other, difference.first)]
        return (
            f"{other} is right on {right[0]} of {difference.n:,}, {first} on {right[1]}: {apart} {interval}, {changed}."
        )
    means = [number(mean, decimals=3) for mean in (difference.other, difference.first)]
    name = readable(difference.metric)
    return f"{capitalized(name)} is {means[0]} for {other} and {means[1]} for {first}: {apart} {interval}, {changed}."


def changes(pairs: Sequence[Pair], main: str) -> list[tuple[float, float]]:
    """Return by how much each pair improves: the main metric, then the mean of all metrics, which orders equal ones."""
    both = [(quality(pair.first, main), quality(pair.other, main)) for pair in pairs]
    return [(after[0] - before[0], after[1] - before[1]) for before, after in both]


def _sides(first: Result, versus: Versus, pair: Pair) -> dict[str, Sample]:
    other = _label(versus.other)
    return {_label(first): pair.first, other if other != _label(first) else f"{other} (2)": pair.other}


def _by_direction(found: Sequence[tuple[float, float]], start: int) -> dict[str, list[int]]:
    """Places by whether the main metric rises or falls, the greatest change first; the first pair has place `start`."""
    rising = sorted(range(len(found)), key=lambda place: found[place], reverse=True)
    falling = sorted(range(len(found)), key=lambda place: found[place])
    groups = {
        _BETTER: [start + place for place in rising if found[place][0] > 0],
        _WORSE: [start + place for place in falling if found[place][0] < 0],
        _SAME: [start + place for place in rising if found[place][0] == 0],
    }
    return {name: places for name, places in groups.items() if places}


def _cards(
    places: Mapping[str, int], kept: Mapping[int, Mapping[str, Sample]], main: str, images: ImagePaths
) -> tuple[Card, ...]:
    return tuple(card(CHANGES.get(name, name), kept[place], main, images) for name, place in places.items())


def _against(first: Result, versus: Versus, main: str, cards: tuple[Card, ...]) -> Against:
    found = next((one for one in versus.metrics if one.metric == main), None)
    subsets: dict[str, list[DifferenceRow]] = {}
    for part in versus.subsets:
        rows = [_row(part.value, one) for one in part.metrics if one.metric == main]
        subsets.setdefault(readable(visible(part.key[:LABEL_LIMIT])), []).extend(rows)
    return Against(
        name=_label(versus.other),
        headline=headline(_label(first), _label(versus.other), found) if found else "",
        cards=cards,
        metrics=tuple(_row(readable(one.metric), one) for one in versus.metrics),
        whole=tuple(_whole(one) for one in versus.whole),
        subsets=tuple((key, tuple(rows)) for key, rows in subsets.items() if rows),
    )


def _row(name: str, found: Difference) -> DifferenceRow:
    apart, interval = _difference(found.metric, found.difference, found.ci95)
    first, other = (_value(mean, found.metric) for mean in (found.first, found.other))
    low, at, high = (min(max(value, -1.0), 1.0) for value in (found.ci95[0], found.difference, found.ci95[1]))
    return DifferenceRow(
        name=visible(name[:LABEL_LIMIT]),
        n=f"{found.n:,}",
        first=first,
        other=other,
        difference=apart,
        interval=interval,
        p="< 0.0001" if found.p < 1e-4 else f"{found.p:.2g}",
        better=f"{found.better:,}",
        worse=f"{found.worse:,}",
        rises=found.difference > 0 if found.difference else None,
        low=low,
        at=at,
        high=high,
    )


def _whole(found: WholeDifference) -> tuple[str, str, str, str, str]:
    values = [_value(value, found.metric) for value in (found.first, found.other)]
    apart, interval = _difference(found.metric, found.difference, found.ci95)
    return readable(visible(found.metric[:LABEL_LIMIT])), values[0], values[1], apart, interval


def _value(value: float, metric: str) -> str:
    share = is_share(metric)
    return number(value, percent=share, decimals=None if share else 3)


def _difference(metric: str, difference: float, ci95: tuple[float, float] | None) -> tuple[str, str]:
    """The difference and its interval, in points of percent or in the metric's own unit."""
    scale, form = (100, ".1f") if is_share(metric) else (1, ".3f")
    apart = f"{scale * difference:+{form}}{' points' if is_share(metric) else ''}"
    interval = f"[{', '.join(f'{scale * end:{form}}' for end in ci95)}]" if ci95 else ""
    return apart.replace("-", "−"), interval.replace("-", "−")


def _measured(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Yield names and values of what was measured, which is the same for all results."""
    summary: Mapping[str, Any] = writable(comparison.first.summary)
    protocol: Any = summary.get("protocol")
    yield "protocol", short_text(lookup(protocol, "title")) or short_text(lookup(protocol, "name"))
    yield "set", " ".join(short_text(lookup(protocol, "data", key)) for key in ("set", "split")).strip()
    yield "task", short_text(summary.get("task"))
    yield "counted", comparison.counted


def _source(result: Result) -> Source:
    summary: Mapping[str, Any] = writable(result.summary)
    provenance: Any = summary.get("provenance")
    step: Any = summary.get("step")
    facts = {
        "model": short_text(lookup(provenance, "model")),
        "step": f"{step:,}" if isinstance(step, int) and step else "",
        "file": visible(str(result.path)[-LABEL_LIMIT:]),
        "date": short_text(lookup(provenance, "date")),
    }
    known = tuple((name, value) for name, value in facts.items() if value)
    return Source(_label(result), known, command_of(summary), provenance_of(summary))


def _label(result: Result) -> str:
    return visible(result.label[:LABEL_LIMIT]) or "(no name)"
