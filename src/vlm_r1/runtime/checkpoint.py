"""Checkpoint folders, which are either complete or do not exist."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from vlm_r1.errors import CheckpointError
from vlm_r1.runtime.atomic import sync


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return the path of a step's checkpoint, e.g. checkpoints/step-000010."""
    return folder / f"step-{step:06d}"


def checkpoint_step(path: Path) -> int:
    """Return the step of a checkpoint: the inverse of `checkpoint_path`."""
    return int(path.name.removeprefix("step-"))


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint, or None."""
    return max(folder.glob("step-*"), default=None)


def begin_folder(target: Path) -> Path:
    """Make an empty temporary folder next to `target`; the remains of a killed process are removed."""
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    except OSError as error:
        raise CheckpointError(f"{target}: cannot be written: {error.strerror}") from error
    return temporary


def commit_folder(temporary: Path, target: Path) -> None:
    """Force everything in `temporary` to the disk, then rename it to `target`; from then on it survives a kill."""
    try:
        for path in [*sorted(temporary.rglob("*")), temporary]:
            sync(path)
        if target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
        sync(target.parent)
    except OSError as error:
        raise CheckpointError(
            f"{target}: cannot be written: {error.strerror}. Wanted a writable folder with free space"
        ) from error


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints."""
    for path in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(path)
