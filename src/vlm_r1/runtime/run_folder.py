"""The run folder (docs/runs.md): it is opened without touching another run, and some files are written once."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_r1.config import Config, load_config, save_config
from vlm_r1.config.secrets import masked_arguments
from vlm_r1.errors import CheckpointError, ConfigError
from vlm_r1.files import read_text
from vlm_r1.parsing.json_values import is_object
from vlm_r1.runtime.atomic import replacing
from vlm_r1.runtime.checkpoint import numbered
from vlm_r1.runtime.lock import Lock
from vlm_r1.runtime.manifest import read_manifest
from vlm_r1.runtime.metrics_log import truncate_after
from vlm_r1.runtime.rollout_log import list_rollouts
from vlm_r1.runtime.text import json_text

_PACKAGES = ("vlm-r1", "torch", "transformers", "accelerate", "peft", "numpy", "pillow", "tokenizers")


@dataclass(frozen=True)
class RunFolder:
    """Paths inside one run folder.

    Attributes:
        path: the folder.
        lock: held by the process that writes the run; None in others.
    """

    path: Path
    lock: Lock | None = None

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def rollouts(self) -> Path:
        return self.path / "rollouts"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def evaluations(self) -> Path:
        return self.path / "eval"

    def check_in_place(self) -> None:
        """Check, before something is written, that the folder is still there and still this run's.

        Raises:
            CheckpointError: it was moved or deleted while the run goes on.
        """
        if not self.config.is_file() or not (self.lock is None or self.lock.is_in_place()):
            raise CheckpointError(
                f"{self.path}: this run's folder was moved or deleted while it trains, so nothing more is written. Put "
                "the folder back and go on with --resume"
            )


def trained_steps(path: Path) -> tuple[int, int] | None:
    """Return (finished steps, steps) of the run that contains a model or a log; None if no run contains it.

    A checkpoint has its step in its name, and a model in its manifest; everything else belongs to the last step.
    """
    folders = [folder for folder in (path, *path.absolute().parents[:2]) if (folder / "config.yaml").is_file()]
    try:
        steps = planned_steps(folders[0], load_config(folders[0] / "config.yaml")) if folders else None
    except ConfigError:  # a config of another version
        return None
    return (step_of_weights(path, steps), steps) if steps else None


def planned_steps(path: Path, config: Config) -> int | None:
    """Return the steps of the run in a folder, which are in `environment.json` where epochs decide; None: not known.

    Args:
        config: the run's own recipe.
    """
    if config.training.num_train_epochs is None:
        return config.training.max_steps
    try:
        steps = read_json(path / "environment.json").get("steps")
    except CheckpointError:
        return None
    return steps if isinstance(steps, int) and not isinstance(steps, bool) and steps > 0 else None


def step_of_weights(path: Path, last: int) -> int:
    """Return the step of a checkpoint or of a model folder; `last` if neither its name nor its manifest says it.

    Raises:
        CheckpointError: the manifest cannot be read.
    """
    if path.parent.name == "checkpoints" and (step := numbered(path.name)) is not None:
        return step
    written = (read_manifest(path) or {}).get("step") if path.is_dir() else None
    return written if isinstance(written, int) else last


def begin_run(run: RunFolder, config: Config, facts: Mapping[str, Any]) -> None:
    """Write environment and config of a new run; the config comes last, since a folder that has one holds a run.

    Args:
        facts: further entries of `environment.json`.

    Raises:
        CheckpointError: they cannot be written.
    """
    write_json(run.environment, {**environment(), **facts})
    _write_config(run, config)


def continue_run(
    run: RunFolder, config: Config, step: int, facts: Mapping[str, Any], changes: Sequence[tuple[str, str]]
) -> None:
    """Drop what was logged after `step`, and write a changed recipe and a lost `environment.json` anew.

    Dropped are lines of metrics, rollouts and evaluations.

    Args:
        facts: entries of an `environment.json` that is written anew; its "steps" are always written.
        changes: options and how they differ from the run so far, e.g. ("training.max_steps", "run 10, now 20");
            `environment.json` keeps them, with the step.

    Raises:
        CheckpointError: something cannot be read or written.
    """
    if changes:
        _write_config(run, config)
    kept = read_json(run.environment) if run.environment.exists() else {}
    now = {**(kept or {**environment(), **facts}), **({"saved": True} if step else {})}
    now |= {"steps": facts["steps"]} if "steps" in facts else {}
    if changes:
        made = ({"after_step": step, "option": key, "change": what} for key, what in changes)
        now["changes"] = [*kept.get("changes", []), *made]
    if now != kept:
        write_json(run.environment, now)
    truncate_after(run.metrics, step)
    for logged, file in list_rollouts(run.rollouts).items():
        if logged > step:
            file.unlink()
    for file in sorted(run.evaluations.glob("*.json")):
        if _made_after(file, step):
            file.unlink()
            file.with_suffix(".samples.jsonl").unlink(missing_ok=True)


def mark_saved(run: RunFolder) -> None:
    """Note in `environment.json` that the run has saved a checkpoint, so that the loss of all is noticed on resume."""
    write_json(run.environment, {**read_json(run.environment), "saved": True})


def _made_after(evaluation: Path, step: int) -> bool:
    """Whether this is the run's own evaluation of a later step."""
    if not re.match(r"(after|step-[0-9]{6,})-", evaluation.name):
        return False
    try:
        made = read_json(evaluation).get("step")
    except CheckpointError:  # torn: it is made anew
        return True
    return isinstance(made, int) and made > step


def _write_config(run: RunFolder, config: Config) -> None:
    with replacing(run.config) as temporary:
        save_config(config, temporary)


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of one JSON object.

    Raises:
        CheckpointError: it is missing, or is no JSON object.
    """
    try:
        found = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path}: cannot be read as JSON: {reason}") from error
    if not is_object(found):
        raise CheckpointError(f"{path}: wanted a JSON object, got {type(found).__name__}")
    return found


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json_text(value, indent=2) + "\n", encoding="utf-8")


def environment() -> dict[str, Any]:
    """Return versions, commit, hardware and command line of this process."""
    import torch  # takes a second, which readers of run folders need not wait

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
        "commit": _commit(),
        "cpu": {"model": _cpu_model(), "cores": os.cpu_count(), "torch_threads": torch.get_num_threads()},
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "command": masked_arguments(sys.argv),
    }


def check_writable(path: Path) -> None:
    """Check that a run folder can be made or written at this path; CheckpointError if not."""
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise CheckpointError(
            f"{path}: the run folder cannot be made: {existing} is not a folder. Choose another --output_dir"
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise CheckpointError(
            f"{path}: the run folder cannot be written: no permission in {existing}. Choose another --output_dir"
        )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the running source tree, with "-dirty" if it has changes; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
