"""Several runs on one page: how their recipes differ, their held-out numbers, and their curves on the same charts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_r1.config.secrets import masked_tree
from vlm_r1.errors import ConfigError
from vlm_r1.evaluation.compare_files import short_labels
from vlm_r1.parsing.json_values import is_list, is_object
from vlm_r1.report.curves import MAX_RUNS, overlaid
from vlm_r1.report.drawing import LABEL_LIMIT
from vlm_r1.report.excerpt import visible
from vlm_r1.report.held_out import HeldOut, Moment, held_out_sets
from vlm_r1.report.pages import page_template, script_hash
from vlm_r1.report.read import Run, read_run, tasks_of
from vlm_r1.report.tables import Cell, cell, is_share, readable
from vlm_r1.runtime.atomic import replacing
from vlm_r1.runtime.text import json_text, writable

_PLACES_OF_A_RUN = ("output_dir",)  # options that differ between any two runs and change nothing
_ABSENT = "–"


@dataclass(frozen=True)
class HeldOutRow:
    """A held-out set of one run: its main metric before and at the latest evaluation, and how the change is judged."""

    dataset: str
    metric: str
    run: str
    colour: int
    before: Cell | None
    latest: Cell | None
    moment: str


def build_runs_page(run_dirs: Sequence[Path], out: Path) -> Path:
    """Atomically write the page of several runs.

    Args:
        run_dirs: run folders, finished or still going on; at most `MAX_RUNS`.
        out: the file to write.

    Returns:
        `out`: one file, which needs no network.

    Raises:
        CheckpointError: one is not a run folder, or the page cannot be written.
        ConfigError: there are too many runs, or one is given twice.
    """
    if len(run_dirs) > MAX_RUNS:
        raise ConfigError(f"{len(run_dirs)} runs are given; wanted at most {MAX_RUNS}, as each line needs its colour")
    places = [run_dir.resolve() for run_dir in run_dirs]
    if len(set(places)) < len(places):
        twice = next(place for number, place in enumerate(places) if place in places[:number])
        raise ConfigError(f"{twice}: is given twice; wanted different runs")
    names = [visible(label[:LABEL_LIMIT]) for label in short_labels(places)]
    runs = dict(zip(names, map(read_run, run_dirs), strict=True))
    problems = [f"{name}: {problem}" for name, run in runs.items() for problem in run.problems]
    rows = list(_held_out(runs, problems))
    wide, small = overlaid(runs)
    page = page_template("runs_page.html.jinja").render(
        script_hash=script_hash("report.js"),
        names=names,
        steps=[f"{len(run.metrics):,}" for run in runs.values()],
        recipes=recipe_differences([run.config for run in runs.values()]),
        rows=sorted(rows, key=lambda row: (row.dataset, row.colour)),
        wide=wide,
        small=small,
        problems=[visible(problem) for problem in dict.fromkeys(problems)],
    )
    with replacing(out) as temporary:
        temporary.write_text(writable(page), encoding="utf-8")
    return out


def recipe_differences(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return the options in which recipes differ, with the value of each as text; "–": it has none.

    >>> recipe_differences([{"seed": 0, "grpo": {"beta": 0.04}}, {"seed": 0, "grpo": {"beta": 0.0}, "output_dir": "b"}])
    [('grpo.beta', ['0.04', '0.0'])]
    """
    flat = [dict(_options("", masked_tree(config))) for config in configs]
    names = dict.fromkeys(name for options in flat for name in options)
    found = [(name, [options.get(name, _ABSENT) for options in flat]) for name in names]
    return [(name, values) for name, values in found if name not in _PLACES_OF_A_RUN and len(set(values)) > 1]


def _options(prefix: str, tree: object) -> Iterator[tuple[str, str]]:
    """Yield the options of a recipe with dots in their names; a list has its places as names."""
    items: Any = enumerate(tree) if is_list(tree) else tree.items() if is_object(tree) else ()
    for key, value in items:
        name = visible(f"{prefix}{key}"[:LABEL_LIMIT])
        if value and (is_object(value) or is_list(value)):
            yield from _options(f"{name}.", value)
        else:
            yield name, visible((value if isinstance(value, str) else json_text(value))[:LABEL_LIMIT])


def _held_out(runs: Mapping[str, Run], problems: list[str]) -> Iterator[HeldOutRow]:
    for colour, (name, run) in enumerate(runs.items()):
        for one in held_out_sets(run, problems, tasks_of(run.config, ())):
            if one.main:
                yield _row(one, name, colour)


def _row(one: HeldOut, run: str, colour: int) -> HeldOutRow:
    first, latest = one.moments[0], one.latest
    return HeldOutRow(
        dataset=readable(visible(one.dataset[:LABEL_LIMIT])),
        metric=readable(visible(one.main[:LABEL_LIMIT])),
        run=run,
        colour=colour,
        before=_cell(one, first) if first.name == "before" else None,
        latest=_cell(one, latest) if latest is not None else None,
        moment=latest.name if latest is not None else "",
    )


def _cell(one: HeldOut, moment: Moment) -> Cell:
    return cell(moment.evaluation.metrics[one.main], is_share(one.main))
