"""`report.html`: a run folder as one offline page.

Its only script is `report.js`, which draws answers and serves keys and taps. The page's policy names it by its hash and
forbids all others, so that text from a model cannot run anything.
"""

# pyright: standard

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from vlm_r1.config.secrets import masked_tree
from vlm_r1.data.access import NOWHERE, Access
from vlm_r1.data.image_paths import ImagePaths
from vlm_r1.errors import VlmR1Error, brief
from vlm_r1.report.answers_page import bounded
from vlm_r1.report.curves import stages
from vlm_r1.report.drawing import LABEL_LIMIT
from vlm_r1.report.excerpt import Excerpt, excerpt
from vlm_r1.report.explorer import Explorer, Words, explore
from vlm_r1.report.findings import Doctored, doctored, unpraised
from vlm_r1.report.groups import MAX_COMPLETIONS, Scale, show_steps
from vlm_r1.report.held_out import compare_so_far, held_out_sets
from vlm_r1.report.labels import labels_of_run
from vlm_r1.report.learnt import Learnt, learnt, planned_steps
from vlm_r1.report.pages import page_template, script_hash
from vlm_r1.report.pictured import latest_name, shown_sets
from vlm_r1.report.read import Run, lookup, read_run, tasks_of
from vlm_r1.report.sidecars import PageData, page_data, remove_others, write_files
from vlm_r1.report.tables import capitalized, compare, duration, run_phases
from vlm_r1.runtime.atomic import replacing
from vlm_r1.runtime.text import json_text, visible, writable

T = TypeVar("T")

_ODD_VALUES = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError, yaml.YAMLError)
"""Exceptions that a value of another kind causes: a text for a number, a list for an object, a number too large."""

FILES = "report_files"
"""Name of the folder beside the page with its data, if they are many."""

_APPENDIX_LIMIT = 20_000  # characters of the config and of the environment that are shown


@dataclass(frozen=True)
class Tile:
    """One fact of the header."""

    name: str
    value: str
    note: str = ""


def build_report(run_dir: Path, access: Access = NOWHERE, allowed_tasks: Sequence[str] = ()) -> Path:
    """Atomically write `report.html` of a run; for an unfinished run it shows the results so far.

    Args:
        run_dir: a run folder as in docs/runs.md. A section without its files, or with a damaged one, is
            replaced by a note.
        access: remote images that may be fetched; a run folder may come from a stranger.
        allowed_tasks: tasks of the user's own, `package.module:Name`, that the run may name. Others are not imported.

    Returns:
        The path of the page, which needs no network. It is one file of at most a few MB; the data of a large run lie in
        the folder `report_files` beside it.

    Raises:
        CheckpointError: `run_dir` is not a run folder, or the page cannot be written.
    """
    page, data = _page(read_run(run_dir), access, allowed_tasks)
    path = run_dir / "report.html"
    write_files(run_dir / FILES, data.files)
    with replacing(path) as temporary:
        temporary.write_text(writable(page), encoding="utf-8")
    remove_others(run_dir / FILES, data.files)
    return path


def _page(run: Run, access: Access, allowed_tasks: Sequence[str]) -> tuple[str, PageData]:
    """Return the page as HTML, and its data; this still reads the run's rollouts, samples and images.

    Each section is made on its own. One that cannot be made is left out, and the page says which file is wrong.
    """
    problems = list(run.problems)
    tasks = tasks_of(run.config, allowed_tasks)
    images = bounded(ImagePaths("/", ("/",), access))
    groups = _section("Groups", "rollouts", problems, lambda: show_steps(run.rollouts, access, allowed_tasks))
    steps, scale = groups or ((), Scale(0, 1))
    sets = _section("Before and after", "eval", problems, lambda: held_out_sets(run, problems, tasks)) or []
    comparisons = _section("Before and after", "summary.json", problems, lambda: compare(run)) or []
    comparisons = comparisons or ([] if run.summary else compare_so_far(sets))
    found = _section("Findings", "metrics.jsonl", problems, lambda: doctored(run)) or Doctored()
    doubted = {finding.about for finding in found.findings if finding.doubts}
    rollouts = run.rollouts if groups else {}
    local = replace(images, access=NOWHERE)  # the answers to look through are too many to fetch their pictures
    explorer = _section("Answers", "rollouts", problems, lambda: explore(sets, rollouts, scale, local, problems))
    data = page_data(explorer or Explorer([], Words(), Words()), FILES)
    page = page_template("report.html.jinja").render(
        name=run.folder.resolve().name,
        subtitle=_section("Subtitle", "config.yaml", problems, lambda: _subtitle(run)) or "",
        script_hash=script_hash("report.js"),
        data=data,
        learnt=_section("What was learnt", "config.yaml", problems, lambda: learnt(run, sets, doubted))
        or Learnt("", ()),
        shown_sets=_section("Pictures", "eval", problems, lambda: shown_sets(sets, images)) or (),
        asked=capitalized(_section("Before and after", "config.yaml", problems, lambda: _asked(run)) or "answers"),
        now=latest_name(sets),
        labels=_section("By label", "eval", problems, lambda: labels_of_run(sets)),
        tiles=_tiles(run, problems),
        doctored=found,
        comparisons=unpraised(comparisons, found.findings),
        stages=_section("Curves", "metrics.jsonl", problems, lambda: stages(run.metrics, run.evaluations, tasks)) or [],
        run_phases=_section("Time", "summary.json", problems, lambda: run_phases(run)) or [],
        steps=steps,
        scale=scale,
        has_boxes=any(image.boxes for step in steps for group in step.groups for image in group.images),
        n_rollout_files=len(run.rollouts),
        max_completions=MAX_COMPLETIONS,
        config=_section("Recipe", "config.yaml", problems, lambda: _appendix(_yaml_text(run.config))),
        environment=_section("Environment", "environment.json", problems, lambda: _appendix(_json_text(run))),
        # last, since the sections above add to them
        problems=[visible(problem.replace(f"{run.folder}/", "")) for problem in dict.fromkeys(problems)],
    )
    return page, data


def _asked(run: Run) -> str:
    draws = lookup(run.config, "training", "num_generations_eval")
    return f"{draws:,} drawn answers" if isinstance(draws, int) and draws > 1 else "greedy answers"


def _section(name: str, file: str, problems: list[str], make: Callable[[], T]) -> T | None:
    """Return a section; None, and a sentence among the problems, if the values of its file are of other kinds."""
    try:
        return make()
    except VlmR1Error as error:
        problems.append(f"{name}: {error}")
    except _ODD_VALUES as error:
        problems.append(f"{name}: {file} holds values of other kinds than docs/runs.md says: {brief(repr(error))}")
    return None


def _yaml_text(config: Mapping[str, Any]) -> str:
    return yaml.safe_dump(masked_tree(config), sort_keys=False, allow_unicode=True) if config else ""


def _json_text(run: Run) -> str:
    return json_text(masked_tree(run.environment), indent=2) if run.environment else ""


def _subtitle(run: Run) -> str:
    """The subtitle, e.g. "Qwen/Qwen2.5-VL-3B-Instruct · GRPO · rec"."""
    names = {"grpo": "GRPO", "sft": "SFT"}
    kinds = dict.fromkeys(names.get(str(row.get("stage")), "") for row in run.metrics)
    sources = lookup(run.config, "data", "train")
    tasks = dict.fromkeys(str(lookup(source, "task")) for source in sources or () if lookup(source, "task"))
    model = "/".join(Path(str(lookup(run.config, "model", "path") or "")).parts[-2:])
    return " · ".join(_short(text) for text in (model, " → ".join(filter(None, kinds)), ", ".join(tasks)) if text)


def _tiles(run: Run, problems: list[str]) -> list[Tile]:
    made = [
        _section("Steps", "config.yaml", problems, lambda: _steps(run)),
        _section("Batch", "config.yaml", problems, lambda: _batch(run)),
        _section("Time of the run", "summary.json", problems, lambda: _time(run)),
        _section("Seed", "config.yaml", problems, lambda: _seed(run)),
        _section("Hardware", "environment.json", problems, lambda: _hardware(run)),
    ]
    return [tile for tile in made if tile is not None]


def _steps(run: Run) -> Tile:
    planned, done = planned_steps(run), len(run.metrics)
    return Tile("Steps", f"{done:,}", f"of {planned:,} planned" if planned is not None and done < planned else "")


def _batch(run: Run) -> Tile | None:
    batch = (lookup(run.config, "training", "prompts_per_step"), lookup(run.config, "grpo", "num_generations"))
    if not run.rollouts or not all(batch):
        return None
    return Tile("Batch", f"{_short(batch[0])} × {_short(batch[1])}", "prompts × completions")


def _time(run: Run) -> Tile | None:
    seconds = _seconds(run)
    return Tile("Time", duration(seconds)) if seconds else None


def _seed(run: Run) -> Tile | None:
    seed = run.summary.get("seed", lookup(run.config, "seed"))
    return None if seed is None else Tile("Seed", _short(seed))


def _seconds(run: Run) -> float:
    """Seconds of the whole run according to its summary, else of the steps so far."""
    phases = (lookup(run.summary, "seconds") or {}).values()
    steps = (row.get("time/step_s", 0.0) for row in run.metrics)
    return math.fsum(s for s in (phases or steps) if isinstance(s, int | float) and abs(s) < 1e15)


def _hardware(run: Run) -> Tile | None:
    """The tile of the hardware, e.g. "8 × NVIDIA H100" or "Intel Xeon, 2 cores"."""
    gpus = Counter(map(str, lookup(run.environment, "gpus") or ()))
    cpu, cores = (lookup(run.environment, "cpu", key) for key in ("model", "cores"))
    on_cpu = ", ".join([str(cpu)] * bool(cpu) + [f"{cores} cores"] * bool(cores))
    found = ", ".join(f"{n} × {gpu}" for gpu, n in gpus.items()) or on_cpu
    return Tile("Hardware", _short(found)) if found else None


def _short(value: Any) -> str:
    return excerpt(str(value), LABEL_LIMIT).head


def _appendix(text: str) -> Excerpt | None:
    return excerpt(text, _APPENDIX_LIMIT) if text else None
