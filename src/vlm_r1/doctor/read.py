"""Read a run folder into what the signs look at; damaged files are named and left out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlm_r1.config.yaml_text import NO_YAML, read_yaml
from vlm_r1.doctor.answers import Answers, count, of_rows, of_samples
from vlm_r1.doctor.base import WINDOW, HeldOut, Seen, Settings
from vlm_r1.errors import CheckpointError, DataError
from vlm_r1.evaluation.samples import read_samples, samples_path
from vlm_r1.files import read_text
from vlm_r1.parsing.json_values import is_list, is_number, is_object
from vlm_r1.runtime.metrics_log import MetricsRow, read_metrics
from vlm_r1.runtime.rollout_log import list_rollouts, read_rollouts
from vlm_r1.runtime.run_folder import read_json
from vlm_r1.tasks import TASKS, main_metric

_NAME = re.compile(r"(before|after|step-\d{1,9})-(.+)")
_LARGEST_STEP = 10**9


def read_seen(folder: Path, until: int | None = None) -> tuple[Seen, list[str]]:
    """Return what is known of a run, and a sentence for each file that cannot be read.

    Args:
        until: last step to look at; None: all. A run that is resumed looks at what it had done by then.

    Raises:
        CheckpointError: `folder` is not a run folder.
    """
    config, metrics = folder / "config.yaml", folder / "metrics.jsonl"
    if not (config.is_file() or metrics.is_file()):
        raise CheckpointError(
            f"{folder}: not a run folder. Wanted config.yaml and metrics.jsonl, as `vlm-r1 train`, `sft` and `demo` "
            "write them into output_dir"
        )
    problems: list[str] = []
    limit = _LARGEST_STEP if until is None else until
    rows = [row for row in _rows(metrics, problems) if float(row["step"]) <= limit]
    rows = [row for row in rows if row.get("stage") == rows[-1].get("stage")]
    settings = settings_of(_tree(config, problems))
    held_out = read_evaluations(folder / "eval", limit, problems)
    return Seen(settings, rows, _answers(folder / "rollouts", rows, problems), held_out), problems


def settings_of(tree: Mapping[str, Any]) -> Settings:
    """Return what the signs need of a recipe, given as its tree; what is missing or odd is left empty.

    >>> settings_of({"grpo": {"num_generations": 8}, "training": {"prompts_per_step": 4}}).completions
    32
    """
    grpo, sampling, training, data = (_section(tree, name) for name in ("grpo", "sampling", "training", "data"))
    prompts, generations = _whole(training.get("prompts_per_step")), _whole(grpo.get("num_generations"))
    weights = {name: float(w) for name, w in _section(tree, "rewards").items() if is_number(w)}
    sources = (
        [source for source in (data.get("train") or ()) if is_object(source)] if is_list(data.get("train")) else []
    )
    return Settings(
        loss_type=str(grpo.get("loss_type", "grpo")),
        max_completion_length=_whole(sampling.get("max_completion_length")),
        completions=prompts * generations,
        prompts=prompts,
        weights=weights,
        rewards=tuple(dict.fromkeys(filter(None, map(_reward, sources)))),
        cuts=(sampling.get("top_p", 1.0), sampling.get("top_k", 0), sampling.get("min_p", 0.0)) != (1.0, 0, 0.0),
    )


def _reward(source: Mapping[str, Any]) -> str:
    """The accuracy reward of a training file: its own, or that of its task."""
    if isinstance(reward := source.get("reward"), str):
        return reward
    task = source.get("task", "rec")
    return TASKS[task].reward if isinstance(task, str) and task in TASKS else ""


def read_held_out(path: Path, samples: bool) -> HeldOut:
    """Read an evaluation.

    Args:
        path: `eval/<name>.json`.
        samples: whether to read its samples too.

    Raises:
        CheckpointError: it is no evaluation as docs/runs.md describes it.
        DataError: the samples cannot be read.
    """
    tree = read_json(path)
    try:
        known = [task for task in (tree.get("task"),) if isinstance(task, str) and task in TASKS]
        metric = main_metric(list(tree["metrics"]), known)
        estimate = tree["metrics"][metric]
        low, high = estimate["ci95"]
        step = 0 if path.name.startswith("before-") else int(tree["step"])
        unread = {str(reason): int(n) for reason, n in tree.get("parse_failures", {}).items()}
        n = int(tree["n"]) * int(tree.get("draws", 1))
        found = HeldOut(step, n, metric, float(estimate["mean"]), float(low), float(high), unread)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{path}: not an evaluation as in docs/runs.md ({error!r:.80})") from error
    if not samples:
        return found
    return replace(found, answers=count(of_samples(read_samples(samples_path(path)))))


def read_evaluations(folder: Path, until: int, problems: list[str] | None = None) -> dict[str, list[HeldOut]]:
    """Read the evaluations of a run by held-out set and step; the newest of each set with its samples.

    Args:
        folder: `eval` of a run folder.
        until: last step to look at.
        problems: collects a sentence for each file that cannot be read.
    """
    problems = [] if problems is None else problems
    sets: dict[str, list[tuple[HeldOut, Path]]] = {}
    for path in sorted(folder.glob("*.json")):
        name = _NAME.fullmatch(path.stem)
        if name is None:  # an evaluation that the user made in this folder
            continue
        for found in _or_problem(path, problems):
            if found.step <= until:
                sets.setdefault(name[2], []).append((found, path))
    kept: dict[str, list[HeldOut]] = {}
    for name, several in sets.items():
        several.sort(key=lambda pair: (pair[0].step, pair[1].name.startswith("after")))
        kept[name] = [found for found, _ in several[:-1]]
        kept[name] += _or_problem(several[-1][1], problems, samples=True) or [several[-1][0]]
    return kept


def windows(steps: Sequence[int]) -> list[int]:
    """Return the first and the last `WINDOW` steps, each once.

    >>> windows(range(1, 4)), len(windows(range(1, 41)))
    ([1, 2, 3], 20)
    """
    return sorted({*steps[:WINDOW], *steps[-WINDOW:]})


def _answers(folder: Path, rows: Sequence[MetricsRow], problems: list[str]) -> dict[int, Answers]:
    files = list_rollouts(folder)
    steps = [step for row in rows if (step := int(row["step"])) in files]
    found: dict[int, Answers] = {}
    for step in windows(steps):
        try:
            found[step] = count(of_rows(read_rollouts(files[step])))
        except CheckpointError as error:
            problems.append(str(error))
    return found


def _or_problem(path: Path, problems: list[str], samples: bool = False) -> list[HeldOut]:
    try:
        return [read_held_out(path, samples)]
    except (CheckpointError, DataError) as error:
        problems.append(str(error))
        return []


def _rows(path: Path, problems: list[str]) -> Iterator[MetricsRow]:
    if not path.is_file():
        return
    try:
        yield from read_metrics(path)
    except CheckpointError as error:
        problems.append(str(error))


def _tree(path: Path, problems: list[str]) -> Mapping[str, Any]:
    if not path.is_file():
        return {}
    try:
        tree: Any = read_yaml(read_text(path))
    except (OSError, *NO_YAML) as error:
        problems.append(f"{path}: cannot be read as YAML: {error}")
        return {}
    return tree if is_object(tree) else {}


def _section(tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section: Any = tree.get(name)
    return section if is_object(section) else {}


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and 0 < value < _LARGEST_STEP else 0
