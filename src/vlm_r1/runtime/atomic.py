"""Atomic writing: a file is always either the old one or the complete new one."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from vlm_r1.errors import CheckpointError


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Yield a temporary path to write to; at the end of the block it atomically becomes `path`, synced to the disk.

    The folder is created if it is missing. If the block fails, `path` stays as it was. A file may have only one writer:
    the temporary name is fixed (`.name.tmp`), so that the next writer removes the remains of a killed process, or a
    link or pipe that came with a stranger's folder.

    Args:
        path: the file to add or replace.

    Raises:
        CheckpointError: the file cannot be written (no permission, disk full).
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        try:
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written: {error.strerror or error}. Wanted a writable folder with free space"
        ) from error


def sync(path: Path) -> None:
    """Force the bytes of a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
