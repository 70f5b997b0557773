"""Read a run folder (docs/runs.md) into values. This imports no trainer: the files are the interface."""

# pyright: standard

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vlm_r1.config.yaml_text import NO_YAML, read_yaml
from vlm_r1.errors import CheckpointError
from vlm_r1.files import read_text
from vlm_r1.runtime.metrics_log import MetricsRow, read_metrics
from vlm_r1.runtime.rollout_log import list_rollouts
from vlm_r1.runtime.run_folder import read_json
from vlm_r1.tasks import TASKS

T = TypeVar("T")

_LARGEST_STEP = 10**9
_EVALUATION_NAME = re.compile(r"(before|after|step-(\d+))-(.+)")


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval, if one was computed, e.g. Estimate(0.61, (0.57, 0.65))."""

    mean: float
    ci95: tuple[float, float] | None = None


@dataclass(frozen=True)
class Evaluation:
    """One file of `eval/`.

    Attributes:
        moment: "before", "after" or "step".
        dataset: name of the held-out set, e.g. "in_domain".
        step: training step after which it was made; 0: before training.
        n: number of records.
        metrics: name → estimate, e.g. {"accuracy_iou50": Estimate(0.61, (0.57, 0.65))}.
    """

    moment: str
    dataset: str
    step: int
    n: int
    metrics: Mapping[str, Estimate]


@dataclass(frozen=True)
class Run:
    """The contents of a run folder; a missing file is an empty value.

    Attributes:
        folder: the run folder.
        config: `config.yaml` without checks, so that runs of older versions can be read.
        environment: `environment.json`.
        metrics: rows of `metrics.jsonl`, in order.
        evaluations: files of `eval/`, by step.
        summary: `summary.json`.
        rollouts: step → its Parquet file, by step.
        problems: what could not be read, a sentence each; it is an empty value above.
    """

    folder: Path
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    metrics: tuple[MetricsRow, ...]
    evaluations: tuple[Evaluation, ...]
    summary: Mapping[str, Any]
    rollouts: Mapping[int, Path]
    problems: tuple[str, ...] = ()


def read_run(run_dir: Path) -> Run:
    """Read everything except the rollouts, which are large and read step by step. Damaged files are left out.

    Raises:
        CheckpointError: `run_dir` is not a run folder.
    """
    config, metrics = run_dir / "config.yaml", run_dir / "metrics.jsonl"
    if not (config.is_file() or metrics.is_file()):
        found = ", ".join(sorted(p.name for p in run_dir.iterdir())[:8]) if run_dir.is_dir() else "no such folder"
        raise CheckpointError(
            f"{run_dir}: not a run folder. Wanted config.yaml and metrics.jsonl, as `vlm-r1 train`, `sft` and `demo` "
            f"write them into output_dir; found: {found or 'an empty folder'}"
        )
    problems: list[str] = []
    found = [_or(None, problems, lambda path=path: _evaluation(path)) for path in sorted(run_dir.glob("eval/*.json"))]
    evaluations = [evaluation for evaluation in found if evaluation is not None]
    return Run(
        folder=run_dir,
        config=_or({}, problems, lambda: _yaml(config)) if config.is_file() else {},
        environment=_or({}, problems, lambda: _json(run_dir / "environment.json")),
        metrics=tuple(_or([], problems, lambda: read_metrics(metrics))) if metrics.is_file() else (),
        evaluations=tuple(sorted(evaluations, key=lambda e: (e.step, e.moment == "after", e.dataset))),
        summary=_or({}, problems, lambda: _summary(run_dir / "summary.json")),
        rollouts=list_rollouts(run_dir / "rollouts"),
        problems=tuple(problems),
    )


def lookup(tree: Any, *keys: str) -> Any:
    """Return the value at a path of keys, or None if there is none.

    >>> lookup({"model": {"path": "tiny"}}, "model", "path")
    'tiny'
    >>> lookup({"model": None}, "model", "path") is None
    True
    """
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def tasks_of(config: object, allowed: Sequence[str] = ()) -> list[str]:
    """Return the tasks that a run trained on, in the order of its recipe; others than ours only if they are allowed.

    >>> tasks_of({"data": {"train": [{"task": "ovd"}, {"task": "rec"}, {"task": "os:system"}]}})
    ['ovd', 'rec']
    """
    sources = lookup(config, "data", "train")
    named = [lookup(source, "task") for source in sources] if isinstance(sources, list) else []
    return [task for task in dict.fromkeys(map(str, named)) if task in {*TASKS, *allowed}]


def _or(default: T, problems: list[str], read: Callable[[], T]) -> T:
    """Return what `read` returns; if it raises, note the problem and return the default."""
    try:
        return read()
    except CheckpointError as error:
        problems.append(str(error))
        return default


def _evaluation(path: Path) -> Evaluation | None:
    name = _EVALUATION_NAME.fullmatch(path.stem)
    if name is None:  # an evaluation that the user made in this folder
        return None
    tree = _json(path)
    try:
        metrics = {metric: _estimate(value) for metric, value in tree["metrics"].items()}
        step = 0 if name[1] == "before" else int(tree["step"] if name[2] is None else name[2])
        if not 0 <= step < _LARGEST_STEP:
            raise ValueError(f"step {step:.3g}")
        return Evaluation(name[1] if name[2] is None else "step", name[3], step, int(tree["n"]), metrics)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise CheckpointError(f"{path}: not an evaluation as in docs/runs.md ({error!r})") from error


def _estimate(value: Mapping[str, Any]) -> Estimate:
    interval = value.get("ci95")
    return Estimate(float(value["mean"]), (float(interval[0]), float(interval[1])) if interval else None)


def _summary(path: Path) -> dict[str, Any]:
    """Read `summary.json`: before and after hold numbers by set and metric, and seconds are numbers by phase."""
    tree = _json(path)
    moments = [tree.get(moment, {}) for moment in ("before", "after")]
    inner = [numbers for sets in moments if isinstance(sets, Mapping) for numbers in sets.values()]
    if not all(isinstance(found, Mapping) for found in (*moments, *inner, tree.get("seconds", {}))):
        raise CheckpointError(f"{path}: not a summary as in docs/runs.md: before, after and seconds are objects")
    return tree


def _json(path: Path) -> dict[str, Any]:
    """Read the object in a file; {} if there is no such file."""
    return read_json(path) if path.exists() else {}


def _yaml(path: Path) -> dict[str, Any]:
    try:
        tree = read_yaml(read_text(path))
    except (OSError, *NO_YAML) as error:
        raise CheckpointError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(tree, dict):
        raise CheckpointError(f"{path}: wanted a mapping of sections, got {type(tree).__name__}")
    return tree
