"""What a run's held-out evaluations say of each set: its moments in order, and how the last differs from the first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vlm_r1.errors import DataError
from vlm_r1.evaluation.compare_values import Pair
from vlm_r1.evaluation.metrics import bootstrap_ci, less_is_better
from vlm_r1.evaluation.samples import Sample, read_samples, samples_path
from vlm_r1.report.answers import quality
from vlm_r1.report.read import Estimate, Evaluation, Run
from vlm_r1.report.tables import Comparison, comparison
from vlm_r1.tasks import main_metric

MIN_PICTURES = 10
"""Sets of fewer pictures tell nothing: their interval is too narrow, for there is little to draw from."""

Key = tuple[str, str, int]


@dataclass(frozen=True)
class Moment:
    """One evaluation of a set: "before", "step 60" or "after"; `path` is its file of samples, None if there is none."""

    name: str
    step: int
    evaluation: Evaluation
    path: Path | None

    def samples(self) -> Iterator[Sample]:
        """Read its answers; of their lines they keep the reward."""
        for sample in read_samples(self.path) if self.path is not None else ():
            yield replace(sample, row={"reward": sample.row.get("reward")})


@dataclass(frozen=True)
class Change:
    """How the answers to one set changed between two moments.

    Attributes:
        pairs: both answers to each record, in the order of the first moment.
        order: places of the pairs, the most improved first; see `vlm_r1.report.comparison_page.changes`.
        better, worse, same: pairs whose main metric rises, falls or stays; where it stays, the mean of all metrics
            decides. Of an error, less is better.
        difference: mean change of the main metric, last − first; NaN if no pair has it.
        ci95: its 95 % bootstrap interval, pictures drawn whole; None if no pair has it.
        n_changed: pairs whose main metric rises or falls.
        pictures: how many different pictures, or records without pictures, the pairs with a metric are about.
        unpaired: answers of either moment that the other one has not.
    """

    pairs: tuple[Pair, ...]
    order: tuple[int, ...]
    better: int
    worse: int
    same: int
    difference: float
    ci95: tuple[float, float] | None
    n_changed: int
    pictures: int
    unpaired: int


@dataclass(frozen=True)
class HeldOut:
    """A held-out set of a run.

    Attributes:
        dataset: its name, e.g. "in_domain".
        moments: its evaluations by step.
        main: the main metric; "" if no evaluation has one.
        change: from the first moment to the last; None: there is one moment, or the answers are not on file.
    """

    dataset: str
    moments: tuple[Moment, ...]
    main: str
    change: Change | None

    @property
    def before(self) -> Estimate | None:
        """The main metric before training; None if it was not measured."""
        first = self.moments[0]
        return first.evaluation.metrics.get(self.main) if first.name == "before" else None

    @property
    def latest(self) -> Moment | None:
        """The last evaluation that was made after the start of the training; None if there is none."""
        return self.moments[-1] if self.moments[-1].name != "before" else None

    @property
    def trend(self) -> int:
        """1: better than chance explains; −1: worse than chance explains; 0: may be chance, or cannot be told."""
        change = self.change
        if self.before is None or change is None or change.ci95 is None or change.pictures < MIN_PICTURES:
            return 0
        sign = -1 if less_is_better(self.main) else 1
        low, high = sorted(sign * end for end in change.ci95)
        return 1 if low > 0 else -1 if high < 0 else 0


def held_out_sets(run: Run, problems: list[str], tasks: Sequence[str] = ()) -> list[HeldOut]:
    """Read the held-out evaluations of a run, set by set in the order of its summary, else of their names.

    Args:
        problems: gets a sentence for each file that cannot be read; its set has no change then.
        tasks: of the recipe, in its order: the first with its main metric in a set says how the set has changed.
    """
    named: Mapping[str, object] = run.summary.get("after") or run.summary.get("before") or {}
    datasets = dict.fromkeys([*named, *(one.dataset for one in run.evaluations)])
    found: list[HeldOut] = []
    for dataset in datasets:
        moments = _moments(run, [one for one in run.evaluations if one.dataset == dataset])
        if moments:
            shared = [name for name in moments[-1].evaluation.metrics if name in moments[0].evaluation.metrics]
            main = main_metric(shared, tasks)
            found.append(HeldOut(dataset, moments, main, _change_or_none(moments, main, problems)))
    return found


def compare_so_far(sets: Sequence[HeldOut]) -> list[Comparison]:
    """Compare the first evaluations with the latest ones, for a run that has not ended and has no summary."""
    rows: list[Comparison] = []
    for one in sets:
        first, latest = one.moments[0], one.latest
        before = first.evaluation.metrics if first.name == "before" else dict[str, Estimate]()
        after = latest.evaluation.metrics if latest is not None else dict[str, Estimate]()
        n = f"{one.moments[-1].evaluation.n:,}"
        names = dict.fromkeys([*before, *after])
        rows += [comparison(one.dataset, name, n, before.get(name), after.get(name)) for name in names]
    return rows


def keyed(samples: Iterable[Sample]) -> Iterator[tuple[Key, Sample]]:
    """Yield each sample with what tells it from the others: source and id of its record, and its number."""
    seen: dict[Key, int] = {}
    for sample in samples:
        key = (sample.source, sample.record_id, sample.draw)
        seen[key] = seen.get(key, 0) + 1
        yield (*key[:2], key[2] + 1_000_000 * (seen[key] - 1)), sample


def change_between(before: Iterable[Sample], after: Iterable[Sample], main: str) -> Change:
    """Pair two moments and measure the change; see `Change`."""
    ones, twos = dict(keyed(before)), dict(keyed(after))
    pairs = [Pair(one, twos[key]) for key, one in ones.items() if key in twos]
    qualities = [(quality(pair.first, main), quality(pair.other, main)) for pair in pairs]
    changes = [(after[0] - before[0], after[1] - before[1]) for before, after in qualities]
    values = [(pair.change(main), pair.first.image_key) for pair in pairs if _has(pair, main)]
    changed = [change for change, _ in values]
    keys = [key for _, key in values]
    return Change(
        pairs=tuple(pairs),
        order=tuple(sorted(range(len(pairs)), key=lambda place: changes[place], reverse=True)),
        better=sum(change > (0, 0) for change in changes),
        worse=sum(change < (0, 0) for change in changes),
        same=sum(change == (0, 0) for change in changes),
        difference=math.fsum(changed) / len(changed) if changed else math.nan,
        ci95=bootstrap_ci(changed, clusters_N=keys) if changed else None,
        n_changed=sum(change != 0 for change in changed),
        pictures=len(set(keys)),
        unpaired=len(ones) + len(twos) - 2 * len(pairs),
    )


def _has(pair: Pair, main: str) -> bool:
    return all(math.isfinite(side.metrics.get(main, math.nan)) for side in (pair.first, pair.other))


def _moments(run: Run, evaluations: Sequence[Evaluation]) -> tuple[Moment, ...]:
    """Return the evaluations of a set, the first and the last ones by step; a step with two has the one after it."""
    by_step = {one.step if one.moment != "before" else -1: one for one in evaluations if one.metrics}
    last = max(by_step, default=0)
    moments: list[Moment] = []
    for step, one in sorted(by_step.items()):
        file = f"step-{step:06d}" if one.moment == "step" else one.moment
        path = samples_path(run.folder / "eval" / f"{file}-{one.dataset}.json")
        name = one.moment if one.moment != "step" and step in (-1, last) else f"step {step:,}"
        moments.append(Moment(name, max(step, 0), one, path if path.exists() else None))
    return tuple(moments)


def _change_or_none(moments: Sequence[Moment], main: str, problems: list[str]) -> Change | None:
    first, last = moments[0], moments[-1]
    if first is last or first.path is None or last.path is None:
        return None
    try:
        change = change_between(first.samples(), last.samples(), main)
    except DataError as error:
        problems.append(f"Before and after: {error}")
        return None
    return change if change.pairs else None


def reading(moment: Moment, problems: list[str], keep: Callable[[Key], bool]) -> dict[Key, Sample]:
    """Return those answers of a moment that are wanted; nothing, and a problem, if its file is damaged."""
    try:
        return {key: sample for key, sample in keyed(moment.samples()) if keep(key)}
    except DataError as error:
        problems.append(f"Held-out answers: {error}")
        return {}
