"""Read a run folder (docs/runs.md) into values. This imports no trainer: the files are the interface."""

# pyright: standard

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vlm_r1.errors import CheckpointError
from vlm_r1.files import read_text
from vlm_r1.runtime.metrics_log import MetricsRow, read_metrics
from vlm_r1.runtime.rollout_log import list_rollouts

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
    """

    folder: Path
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    metrics: tuple[MetricsRow, ...]
    evaluations: tuple[Evaluation, ...]
    summary: Mapping[str, Any]
    rollouts: Mapping[int, Path]


def read_run(run_dir: Path) -> Run:
    """Read everything except the rollouts, which are large and read step by step.

    Raises:
        CheckpointError: `run_dir` is not a run folder, or a file in it is damaged.
    """
    config, metrics = run_dir / "config.yaml", run_dir / "metrics.jsonl"
    if not (config.is_file() or metrics.is_file()):
        found = ", ".join(sorted(p.name for p in run_dir.iterdir())[:8]) if run_dir.is_dir() else "no such folder"
        raise CheckpointError(
            f"{run_dir}: not a run folder. Wanted config.yaml and metrics.jsonl, as `vlm-r1 train`, `sft` and `demo` "
            f"write them into output_dir; found: {found or 'an empty folder'}"
        )
    evaluations = [e for path in sorted(run_dir.glob("eval/*.json")) if (e := _evaluation(path)) is not None]
    return Run(
        folder=run_dir,
        config=_yaml(config) if config.is_file() else {},
        environment=_json(run_dir / "environment.json"),
        metrics=tuple(read_metrics(metrics)) if metrics.is_file() else (),
        evaluations=tuple(sorted(evaluations, key=lambda e: (e.step, e.moment == "after", e.dataset))),
        summary=_json(run_dir / "summary.json"),
        rollouts=list_rollouts(run_dir / "rollouts"),
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


def _evaluation(path: Path) -> Evaluation | None:
    name = _EVALUATION_NAME.fullmatch(path.stem)
    if name is None:  # an evaluation that the user made in this folder
        return None
    tree = _json(path)
    try:
        metrics = {metric: _estimate(value) for metric, value in tree["metrics"].items()}
        step = 0 if name[1] == "before" else int(tree["step"] if name[2] is None else name[2])
        return Evaluation(name[1] if name[2] is None else "step", name[3], step, int(tree["n"]), metrics)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: not an evaluation as in docs/runs.md ({error!r})") from error


def _estimate(value: Mapping[str, Any]) -> Estimate:
    interval = value.get("ci95")
    return Estimate(float(value["mean"]), (float(interval[0]), float(interval[1])) if interval else None)


def _json(path: Path) -> dict[str, Any]:
    """Read the object in a file; {} if there is no such file."""
    try:
        tree = json.loads(read_text(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(tree, dict):
        raise CheckpointError(f"{path}: wanted a JSON object, got {type(tree).__name__}")
    return tree


def _yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(read_text(path))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(tree, dict):
        raise CheckpointError(f"{path}: wanted a mapping of sections, got {type(tree).__name__}")
    return tree
