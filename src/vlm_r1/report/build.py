"""`report.html`: a run folder as one offline page.

It has no script and forbids scripts, so that text from a model cannot run anything.
"""

# pyright: standard

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import yaml

from vlm_r1.data.access import NOWHERE, Access
from vlm_r1.report.curves import stages
from vlm_r1.report.excerpt import Excerpt, excerpt
from vlm_r1.report.groups import LABEL_LIMIT, MAX_COMPLETIONS, show_steps
from vlm_r1.report.read import Run, lookup, read_run
from vlm_r1.report.tables import Comparison, capitalized, compare, duration, run_phases
from vlm_r1.runtime.atomic import replacing
from vlm_r1.runtime.text import visible

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
        run_dir: a run folder as in docs/runs.md. A section without its files is replaced by a note.
        access: remote images that may be fetched; a run folder may come from a stranger.
        allowed_tasks: tasks of the user's own, `package.module:Name`, that the run may name. Others are not imported.

    Returns:
        The path of the page: one file of at most a few MB, which needs no network.

    Raises:
        CheckpointError: `run_dir` is not a run folder, a file in it is damaged, or the page cannot be written.
    """
    page = render(read_run(run_dir), access, allowed_tasks)
    path = run_dir / "report.html"
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def render(run: Run, access: Access = NOWHERE, allowed_tasks: Sequence[str] = ()) -> str:
    """Return the page as HTML; this still reads the run's rollouts and images."""
    steps, scale = show_steps(run.rollouts, access, allowed_tasks)
    comparisons = compare(run)
    return page_template("report.html.jinja").render(
        name=run.folder.resolve().name,
        subtitle=_subtitle(run),
        tiles=_tiles(run, comparisons),
        comparisons=comparisons,
        stages=stages(run.metrics, run.evaluations),
        run_phases=run_phases(run),
        steps=steps,
        scale=scale,
        has_boxes=any(image.boxes for step in steps for group in step.groups for image in group.images),
        n_rollout_files=len(run.rollouts),
        max_completions=MAX_COMPLETIONS,
        config=_appendix(yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True) if run.config else ""),
        environment=_appendix(json.dumps(run.environment, indent=2, ensure_ascii=False) if run.environment else ""),
    )


@cache
def page_template(name: str) -> jinja2.Template:
    """Load a template of this folder; inserted text is escaped, and control characters in it are written out."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template(name)


def _shown(value: Any) -> Any:
    """`visible` for texts; what a macro made is no plain text, and is shown already."""
    return visible(value) if type(value) is str else value


def _subtitle(run: Run) -> str:
    """The subtitle, e.g. "Qwen/Qwen2.5-VL-3B-Instruct · GRPO · rec"."""
    names = {"grpo": "GRPO", "sft": "SFT"}
    kinds = dict.fromkeys(names.get(str(row.get("stage")), "") for row in run.metrics)
    sources = lookup(run.config, "data", "train")
    tasks = dict.fromkeys(str(lookup(source, "task")) for source in sources or () if lookup(source, "task"))
    model = "/".join(Path(str(lookup(run.config, "model", "path") or "")).parts[-2:])
    return " · ".join(_short(text) for text in (model, " → ".join(filter(None, kinds)), ", ".join(tasks)) if text)


def _tiles(run: Run, comparisons: list[Comparison]) -> list[Tile]:
    tiles: list[Tile] = []
    if comparisons and comparisons[0].before and comparisons[0].after:
        first = comparisons[0]
        value = f"{first.before.text} → {first.after.text}" if first.before and first.after else ""
        tiles.append(Tile(capitalized(f"{first.metric}, {first.dataset}"), value, first.difference))
    planned = lookup(run.config, "training", "max_steps")
    batch = (lookup(run.config, "training", "prompts_per_step"), lookup(run.config, "grpo", "num_generations"))
    done = len(run.metrics)
    going_on = isinstance(planned, int) and done < planned
    tiles.append(Tile("Steps", f"{done:,}", f"of {planned:,} planned" if going_on else ""))
    if run.rollouts and all(batch):
        tiles.append(Tile("Batch", f"{batch[0]} × {batch[1]}", "prompts × completions"))
    seconds = _seconds(run)
    if seconds:
        tiles.append(Tile("Time", duration(seconds)))
    seed = run.summary.get("seed", lookup(run.config, "seed"))
    if seed is not None:
        tiles.append(Tile("Seed", _short(seed)))
    if hardware := _hardware(run):
        tiles.append(Tile("Hardware", _short(hardware)))
    return tiles


def _seconds(run: Run) -> float:
    """Seconds of the whole run according to its summary, else of the steps so far."""
    phases = (lookup(run.summary, "seconds") or {}).values()
    steps = (row.get("time/step_s", 0.0) for row in run.metrics)
    return math.fsum(s for s in (phases or steps) if isinstance(s, int | float) and math.isfinite(s))


def _hardware(run: Run) -> str:
    """The hardware, e.g. "8 × NVIDIA H100" or "Intel Xeon, 2 cores"."""
    gpus = Counter(map(str, lookup(run.environment, "gpus") or ()))
    cpu, cores = (lookup(run.environment, "cpu", key) for key in ("model", "cores"))
    on_cpu = ", ".join([str(cpu)] * bool(cpu) + [f"{cores} cores"] * bool(cores))
    return ", ".join(f"{n} × {gpu}" for gpu, n in gpus.items()) or on_cpu


def _short(value: Any) -> str:
    return excerpt(str(value), LABEL_LIMIT).head


def _appendix(text: str) -> Excerpt | None:
    return excerpt(text, _APPENDIX_LIMIT) if text else None
