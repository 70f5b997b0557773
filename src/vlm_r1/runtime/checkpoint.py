"""Checkpoint folders and other folders that are either complete or do not exist, with a manifest of their files."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from vlm_r1.errors import CheckpointError
from vlm_r1.runtime.atomic import sync
from vlm_r1.runtime.manifest import write_manifest

_NAME = re.compile(r"step-([0-9]{6,})")
_LEFT_BEHIND = re.compile(r"\.(.+)\.(tmp|old|gone)")
"""Hidden folders that a kill leaves: half written, set aside for a new one, or to be deleted."""

_OF_WRITING = ("inline_container", "PytorchStreamWriter", "iostream error", "os error")
"""Words in errors of writing that have no type of their own: RuntimeErrors of torch, an Exception of tokenizers."""


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return the path of a step's checkpoint, e.g. checkpoints/step-000010."""
    return folder / f"step-{step:06d}"


def numbered(name: str) -> int | None:
    """Return the step of a name such as "step-000010"; None for any other name.

    >>> numbered("step-1000000"), numbered("step-000006-keep"), numbered("step-0000006")
    (1000000, None, None)
    """
    found = _NAME.fullmatch(name)
    return int(found[1]) if found is not None and f"step-{int(found[1]):06d}" == name else None


def checkpoint_step(path: Path) -> int:
    """Return the step of a checkpoint: the inverse of `checkpoint_path`."""
    return int(path.name.removeprefix("step-"))


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints, oldest first: folders, or links to folders, named `step-NNNNNN`; nothing else is one."""
    found = [path for path in sorted(folder.glob("step-*")) if numbered(path.name) is not None and path.is_dir()]
    return sorted(found, key=checkpoint_step)


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint, or None."""
    return next(reversed(list_checkpoints(folder)), None)


@contextmanager
def new_folder(
    target: Path, *, step: int | None = None, needed_bytes: int = 0, edited: Collection[str] = ()
) -> Generator[Path]:
    """Yield an empty temporary folder; after the block it becomes `target`, with a manifest, and is synced to the disk.

    If the block fails, the temporary folder is removed, and `target` stays as it was. A folder that is there is renamed
    before the new one gets its name, and deleted after; `put_right` mends what a kill leaves in between.

    Args:
        target: the folder to add or replace.
        step: the training step of what is written; the manifest has it.
        needed_bytes: an estimate of what is written; nothing is begun if less is free.
        edited: names of files that people may change; the manifest leaves them out.

    Raises:
        CheckpointError: there is no space, or the folder cannot be written; the message says how much is needed and
            free.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        _delete(temporary)
        temporary.mkdir(parents=True)
        disk = shutil.disk_usage(temporary)
        if disk.total and disk.free < needed_bytes:
            raise OSError("the disk is full")
        yield temporary
        for path in sorted(temporary.rglob("*")):
            sync(path)
        write_manifest(temporary, {} if step is None else {"step": step}, edited)
        sync(temporary / "manifest.json")
        sync(temporary)
        _replace(temporary, target)
    except BaseException as error:
        written_bytes = _size_bytes(temporary)
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError | SafetensorError) or any(word in str(error) for word in _OF_WRITING):
            raise CheckpointError(_unwritten(target, error, max(needed_bytes, written_bytes))) from error
        raise


def put_right(folder: Path) -> None:
    """Mend what a process that was killed while it wrote, replaced or deleted folders left in `folder`.

    A folder that was set aside gets its name back if no new one has it. Everything else that is hidden by our names is
    deleted.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    try:
        for path in sorted(folder.glob(".*")):
            found = _LEFT_BEHIND.fullmatch(path.name)
            if found is None or not path.is_dir() or not (found[1] == "model" or numbered(found[1]) is not None):
                continue
            if found[2] == "old" and not os.path.lexists(folder / found[1]):
                os.replace(path, folder / found[1])
            else:
                shutil.rmtree(path)
            sync(folder)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written: {error.strerror}. Wanted a writable folder") from error


def prune_checkpoints(folder: Path, keep: int, newest: int, damaged: Sequence[Path] = ()) -> None:
    """Delete all but the newest `keep` checkpoints up to step `newest`, and the damaged ones among them.

    Later checkpoints are damaged ones that were not resumed from; they are replaced when their step comes.

    Raises:
        CheckpointError: a folder cannot be deleted.
    """
    own = [path for path in list_checkpoints(folder) if checkpoint_step(path) <= newest]
    whole = [path for path in own if path not in damaged]
    for path in own:
        if path not in whole[-keep:]:
            remove_folder(path)


def remove_folder(path: Path) -> None:
    """Delete a folder, if there is one: renamed first, so that a kill leaves no half of it under its name.

    Raises:
        CheckpointError: it cannot be deleted.
    """
    gone = path.with_name(f".{path.name}.gone")
    try:
        _delete(gone)
        if os.path.lexists(path):
            os.replace(path, gone)
            _delete(gone)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be deleted: {error.strerror}. Wanted a writable folder") from error


def shown_bytes(n_bytes: float) -> str:
    """Return bytes for people.

    >>> shown_bytes(5_300_000), shown_bytes(45_000_000_000)
    ('5.3 MB', '45.0 GB')
    """
    unit, name = next(((unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB")) if n_bytes >= unit), (1e3, "kB"))
    return f"{n_bytes / unit:,.1f} {name}"


def _replace(temporary: Path, target: Path) -> None:
    """Give a finished folder its name; an older one is deleted only when the new one has it."""
    aside = target.with_name(f".{target.name}.old")
    is_there = os.path.lexists(target)
    if is_there:
        _delete(aside)
        os.replace(target, aside)
        sync(target.parent)
    try:
        os.replace(temporary, target)
    except OSError:
        if is_there:
            os.replace(aside, target)
        raise
    sync(target.parent)
    _delete(aside)


def _delete(path: Path) -> None:
    """Delete a folder, a file or a link, if there is one; not what a link leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _size_bytes(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    except OSError:
        return 0


def _unwritten(target: Path, error: BaseException, needed_bytes: int) -> str:
    reason = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0]
    try:
        free = shown_bytes(shutil.disk_usage(target.parent).free)
    except OSError:  # the folder is gone
        free = "nothing"
    return (
        f"{target}: cannot be written: {reason}. It needs {shown_bytes(needed_bytes)} or more, and {free} is free "
        "there. What was saved before is whole; make space, then go on"
    )
