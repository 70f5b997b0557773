"""The run folder (docs/runs.md): it is opened without touching another run, and some files are written once."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vlm_r1.config import Config, as_dict, load_config, save_config
from vlm_r1.config.secrets import masked_arguments
from vlm_r1.errors import CheckpointError, ConfigError
from vlm_r1.parsing.json_values import is_object
from vlm_r1.runtime.atomic import replacing
from vlm_r1.runtime.checkpoint import checkpoint_step, latest_checkpoint
from vlm_r1.runtime.metrics_log import truncate_after
from vlm_r1.runtime.text import json_text

_PACKAGES = ("vlm-r1", "torch", "transformers", "accelerate", "peft", "numpy", "pillow", "tokenizers")


@dataclass(frozen=True)
class RunFolder:
    """Paths inside one run folder."""

    path: Path

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def evaluations(self) -> Path:
        return self.path / "eval"


def trained_steps(path: Path) -> tuple[int, int] | None:
    """Return (finished steps, steps) of the run that contains a model or a log; None if no run contains it.

    A checkpoint has its step in its name; the model and everything else belongs to the last step.
    """
    folders = [folder for folder in (path, *path.absolute().parents[:2]) if (folder / "config.yaml").is_file()]
    try:
        steps = load_config(folders[0] / "config.yaml").training.max_steps if folders else 0
    except ConfigError:  # a config of another version
        return None
    checkpoint = path.parent.name == "checkpoints" and path.name.startswith("step-")
    taken = checkpoint_step(path) if checkpoint else steps
    return (taken, steps) if steps else None


def check_run_folder(config: Config, resume: bool) -> Path | None:
    """Check, without writing, whether a run may start or continue in `config.output_dir`.

    Returns:
        The checkpoint to resume from, or None to start at step 0.

    Raises:
        CheckpointError: the folder holds another run, cannot be written, has nothing to resume, or was made with
            another config.
    """
    path = Path(config.output_dir)
    _check_writable(path)
    holds_run = (path / "config.yaml").exists() or (path / "metrics.jsonl").exists()
    if not resume:
        if holds_run:
            raise CheckpointError(
                f"{path}: already holds a run. Choose another --output_dir, or continue it with --resume"
            )
        return None
    if not (path / "config.yaml").exists():
        raise CheckpointError(f"{path}: --resume, but there is no config.yaml of a run. Start it without --resume")
    differences = list(_differences(as_dict(load_config(path / "config.yaml")), as_dict(config)))
    if differences:
        raise CheckpointError(
            f"{path}: --resume with another config than the run was started with:\n  "
            + "\n  ".join(differences)
            + "\nUse the run's own config.yaml, or choose another --output_dir"
        )
    return latest_checkpoint(path / "checkpoints")


def open_run_folder(config: Config, resume_step: int | None, facts: Mapping[str, Any] | None = None) -> RunFolder:
    """Write config and environment of a new run, or drop the logs after the checkpoint of `resume_step`.

    Args:
        facts: further entries of `environment.json`.
    """
    run = RunFolder(Path(config.output_dir))
    if resume_step is None:
        with replacing(run.path / "config.yaml") as temporary:
            save_config(config, temporary)
        write_json(run.path / "environment.json", {**environment(), **(facts or {})})
    truncate_after(run.metrics, resume_step or 0)
    for file in sorted(run.path.glob("rollouts/step-*.parquet")):
        if int(file.stem.removeprefix("step-")) > (resume_step or 0):
            file.unlink()
    return run


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json_text(value, indent=2) + "\n", encoding="utf-8")


def environment() -> dict[str, Any]:
    """Return versions, commit, hardware and command line of this process."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
        "commit": _commit(),
        "cpu": {"model": _cpu_model(), "cores": os.cpu_count(), "torch_threads": torch.get_num_threads()},
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "command": masked_arguments(sys.argv),
    }


def _check_writable(path: Path) -> None:
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise CheckpointError(
            f"{path}: the run folder cannot be made: {existing} is not a folder. Choose another --output_dir"
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise CheckpointError(
            f"{path}: the run folder cannot be written: no permission in {existing}. Choose another --output_dir"
        )


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key in sorted(old.keys() | new.keys()):
        name, a, b = f"{prefix}{key}", old.get(key), new.get(key)
        if name == "output_dir" or a == b:
            continue
        if is_object(a) and is_object(b):
            yield from _differences(a, b, f"{name}.")
        else:
            yield f"{name}: run {a!r}, now {b!r}"


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
