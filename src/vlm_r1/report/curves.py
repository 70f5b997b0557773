"""The charts of a run, made from the numbers of `metrics.jsonl`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vlm_r1.report.figures import Dot, Figure, Series, draw
from vlm_r1.report.read import Evaluation, Run, tasks_of
from vlm_r1.report.tables import Phase, capitalized, is_share, readable, step_phases
from vlm_r1.rewards.names import short_names
from vlm_r1.runtime.metrics_log import MetricsRow
from vlm_r1.tasks import main_metric

_STAGE_NAMES = {"grpo": "GRPO", "sft": "Supervised training (SFT)"}
_MAX_REASONS = 6  # number of parse-failure reasons that have a line
_LARGEST = 1e300  # the range of larger numbers is more than a float can hold
_PALETTE = 7  # number of colours after the first, which is for the total
MAX_RUNS = _PALETTE + 1  # runs on one chart, each with its colour


@dataclass(frozen=True)
class Stage:
    """Consecutive steps of one kind: two wide charts, small charts, and the times of the phases."""

    name: str
    n_steps: int
    wide: tuple[Figure, ...]
    small: tuple[Figure, ...]
    phases: tuple[Phase, ...]


@dataclass(frozen=True)
class _Plot:
    """A small chart: title, label of the y axis, and metric keys with their names in the legend."""

    title: str
    y_label: str
    keys: dict[str, str]
    percent: bool = False
    missing: float = math.nan  # the value of an absent key


_SMALL = (
    _Plot("Loss", "loss", {"loss": "loss"}),
    _Plot("KL to the start", "nats per token", {"kl": "KL"}),
    _Plot("KL to blank images", "nats per token", {"perception_kl": "KL"}),
    _Plot("Entropy", "nats per token", {"entropy": "entropy"}),
    _Plot("Gradient norm", "norm before clipping", {"grad_norm": "norm"}),
    _Plot("Completion length", "tokens", {"completions/mean_length": "mean"}),
    _Plot("Groups without signal", "share of groups", {"groups/no_signal": "all equal"}, percent=True),
    _Plot("Truncated completions", "share", {"completions/truncated": "at the cap"}, percent=True),
    _Plot("Clipped tokens", "share", {"clip_ratio/low": "below", "clip_ratio/high": "above"}, percent=True),
    _Plot("Learning rate", "learning rate", {"learning_rate": "rate"}),
)


def stages(metrics: Sequence[MetricsRow], evaluations: Sequence[Evaluation], tasks: Sequence[str] = ()) -> list[Stage]:
    """Make the charts of each stage, in the order trained; the evaluations belong to the last stage.

    Args:
        tasks: of the recipe, in its order; the main metric of the first has a wide chart.
    """
    by_stage = [(str(name), list(rows)) for name, rows in itertools.groupby(metrics, lambda row: row.get("stage", ""))]
    shown: list[Stage] = []
    for position, (name, rows) in enumerate(by_stage):
        dots = _evaluation_points(rows, evaluations if position == len(by_stage) - 1 else ())
        small = [*_small_plots(rows, tasks), _parse_failures(rows), _left_out(rows)]
        stage = Stage(
            name=_STAGE_NAMES.get(name, name or "Training"),
            n_steps=len(rows),
            wide=tuple(figure for figure in (_reward(rows), _task_metric(rows, dots, tasks)) if figure),
            small=tuple(figure for plot in small if (figure := _draw_small(rows, plot))),
            phases=tuple(step_phases(rows)),
        )
        shown.append(stage)
    return shown


def overlaid(runs: Mapping[str, Run]) -> tuple[list[Figure], list[Figure]]:
    """Make charts with a line for each run, at most as many runs as there are colours.

    Args:
        runs: name → run. The first has the first colour.

    Returns:
        Wide charts: reward, and the main metric of each held-out set; small charts: the other numbers.
    """
    rewards = [_Plot("Reward", "mean over completions", {"reward/mean": ""})]
    wide = [figure for plot in rewards if (figure := _draw_runs(runs, plot, (560, 300)))]
    wide += [figure for dataset in _datasets(runs) if (figure := _draw_held_out(runs, dataset))]
    rows = [row for run in runs.values() for row in run.metrics]
    tasks = [task for run in runs.values() for task in tasks_of(run.config, ())]
    plots = [*_small_plots(rows, tasks), *_main_plot(rows, tasks)]
    plots = [plot for plot in plots if len(plot.keys) == 1]
    return wide, [figure for plot in plots if (figure := _draw_runs(runs, plot, (320, 210)))]


def _main_plot(rows: Sequence[MetricsRow], tasks: Sequence[str]) -> Iterator[_Plot]:
    """Yield the plot of the main metric of sampled answers, if there is one."""
    main = main_metric([key.split("/")[1] for key in _keys(rows) if key.startswith("metrics/")], tasks)
    if main:
        keys = {f"metrics/{main}/mean": ""}
        yield _Plot(capitalized(readable(main)), "sampled, mean", keys, percent=is_share(main))


def _draw_runs(runs: Mapping[str, Run], plot: _Plot, size: tuple[int, int]) -> Figure | None:
    """Draw one metric of all runs."""
    (key,) = plot.keys
    series = [
        Series(
            name,
            [float(row["step"]) for row in run.metrics],
            [_number(row.get(key, math.nan)) for row in run.metrics],
            n,
        )
        for n, (name, run) in enumerate(runs.items())
    ]
    return draw(plot.title, plot.y_label, series, width=size[0], height=size[1], percent=plot.percent)


def _datasets(runs: Mapping[str, Run]) -> dict[str, None]:
    return dict.fromkeys(one.dataset for run in runs.values() for one in run.evaluations)


def _draw_held_out(runs: Mapping[str, Run], dataset: str) -> Figure | None:
    """Draw the main metric of a held-out set at each evaluation of all runs."""
    found = [(name, n, one) for n, (name, run) in enumerate(runs.items()) for one in run.evaluations]
    found = [(name, n, one) for name, n, one in found if one.dataset == dataset]
    tasks = [task for run in runs.values() for task in tasks_of(run.config, ())]
    main = main_metric(dict.fromkeys(metric for _, _, one in found for metric in one.metrics), tasks)
    dots = [
        Dot(one.step, _number(estimate.mean), estimate.ci95, name, n)
        for name, n, one in found
        if (estimate := one.metrics.get(main)) is not None
    ]
    title = f"{capitalized(readable(main))}, held out: {readable(dataset)}"
    return draw(title, "share" if is_share(main) else "mean", [], dots, height=300, percent=is_share(main))


def _reward(rows: Sequence[MetricsRow]) -> Figure | None:
    named = {"reward/mean": "total"} | _components(rows, "/mean")
    return draw("Reward", "mean over completions", _series(rows, named), height=300)


def _components(rows: Sequence[MetricsRow], end: str) -> dict[str, str]:
    """Map the keys of this metric of each component of the reward to the component's name for people."""
    keys = [key for key in _keys(rows) if key.startswith("rewards/") and key.endswith(end)]
    names = {key: key.removeprefix("rewards/").removesuffix(end) for key in keys}
    short = short_names(names.values())
    return {key: readable(short[name]) for key, name in names.items()}


def _task_metric(
    rows: Sequence[MetricsRow], points: Sequence[tuple[str, str, Dot]], tasks: Sequence[str]
) -> Figure | None:
    """Draw the task's main metric: of samples in training as a line, of held-out sets as dots."""
    sampled = [key.split("/")[1] for key in _keys(rows) if key.startswith("metrics/")]
    names = list(dict.fromkeys([*sampled, *(metric for _, metric, _ in points)]))
    if not names:
        return None
    main = main_metric(names, tasks)
    datasets = list(dict.fromkeys(dataset for dataset, metric, _ in points if metric == main))
    dots = [
        Dot(dot.x, dot.y, dot.ci95, f"held out: {readable(dataset)}", 1 + datasets.index(dataset) % _PALETTE)
        for dataset, metric, dot in points
        if metric == main
    ]
    line = _series(rows, {f"metrics/{main}/mean": "training prompts, sampled"})
    title = capitalized(readable(main))
    return draw(title, "share" if is_share(main) else "mean", line, dots, height=300, percent=is_share(main))


def _evaluation_points(rows: Sequence[MetricsRow], evaluations: Sequence[Evaluation]) -> list[tuple[str, str, Dot]]:
    """Return (set, metric, dot) from the evaluation files, and from `eval/` keys of steps without a file."""
    points = {
        (e.dataset, metric, float(e.step)): Dot(e.step, _number(estimate.mean), estimate.ci95, "", 0)
        for e in evaluations
        for metric, estimate in e.metrics.items()
    }
    for row in rows:
        for key, value in row.items():
            _, _, path = key.partition("eval/")
            dataset, _, metric = path.partition("/")
            if key.startswith("eval/") and metric and not isinstance(value, str):
                step = _number(row["step"])
                points.setdefault((dataset, metric, step), Dot(step, _number(value), None, "", 0))
    return [(dataset, metric, dot) for (dataset, metric, _), dot in points.items()]


def _small_plots(rows: Sequence[MetricsRow], tasks: Sequence[str]) -> Iterator[_Plot]:
    sampled = [key.split("/")[1] for key in _keys(rows) if key.startswith("metrics/")]
    main = main_metric(sampled, tasks)
    for name in sampled:
        if name != main:
            yield _Plot(
                capitalized(readable(name)),
                "sampled, mean",
                {f"metrics/{name}/mean": "training prompts"},
                percent=is_share(name),
            )
    yield from _SMALL


def _parse_failures(rows: Sequence[MetricsRow]) -> _Plot:
    """Plot the most frequent reasons; a step without a reason has no key for it, which means 0."""
    counts: dict[str, float] = {}
    for row in rows:
        for key, value in row.items():
            if key.startswith("parse_failures/") and not isinstance(value, str):
                counts[key] = counts.get(key, 0.0) + _number(value)
    frequent = sorted(counts, key=lambda key: -counts[key])[:_MAX_REASONS]
    names = {key: readable(key.removeprefix("parse_failures/")) for key in frequent}
    return _Plot("Parse failures", "completions", names, missing=0.0)


def _left_out(rows: Sequence[MetricsRow]) -> _Plot:
    """Plot completions that one or all reward components left out; a step without them has no key, which means 0."""
    names = _components(rows, "/left_out")
    return _Plot("Left out by rewards", "completions", names | {"reward/left_out": "by all components"}, missing=0.0)


def _draw_small(rows: Sequence[MetricsRow], plot: _Plot) -> Figure | None:
    series = _series(rows, plot.keys, plot.missing)
    return draw(plot.title, plot.y_label, series, width=320, height=210, percent=plot.percent)


def _series(rows: Sequence[MetricsRow], names: dict[str, str], missing: float = math.nan) -> list[Series]:
    """Make one line for each key that occurs in the rows."""
    present = _keys(rows)
    steps = [float(row["step"]) for row in rows]
    return [
        Series(label, steps, [_number(row.get(key, missing)) for row in rows], 0 if i == 0 else 1 + (i - 1) % _PALETTE)
        for i, (key, label) in enumerate((key, label) for key, label in names.items() if key in present)
    ]


def _keys(rows: Sequence[MetricsRow]) -> dict[str, None]:
    """The keys of all rows in the order of their first appearance."""
    return dict.fromkeys(key for row in rows for key in row)


def _number(value: float | str) -> float:
    """Return a number that can be drawn; NaN, which leaves a gap, for texts and numbers beyond 1e300."""
    return math.nan if isinstance(value, str) or not abs(value) < _LARGEST else float(value)
