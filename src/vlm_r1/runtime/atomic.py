"""Files that are either the old one or the new one, whatever happens in between."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from vlm_r1.errors import CheckpointError


@contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Yield a temporary path to write to; at the end of the block it becomes `path`, at once and for good.

    The folder is made if need be. A block that fails leaves `path` as it was. One writer per file is assumed: the
    temporary name is fixed (`.name.tmp`), so that what a killed process left behind is overwritten, not collected.

    Args:
        path: the file to add or replace.

    Raises:
        CheckpointError: the file cannot be written (no permission, disk full).
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
    """Force a file's bytes, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
