"""System calls that fail as on a full disk, a disk that became read-only, or a broken one; and a disk that is full."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.survival.subjects import Subject
from benchmarks.survival.trials import ERROR, USER_ERROR, Ground, Result, Run, forbidden, tail

FAILURES = {  # error number, and whether all calls fail or only those that need space
    "disk full": (errno.ENOSPC, False),
    "disk broken": (errno.EIO, False),
    "disk read-only": (errno.EROFS, True),
    "no permission": (errno.EACCES, True),
}


def failure_at_call(ground: Ground, subject: Subject, failure: str, n: int) -> Result:
    """Let a system call and those after it fail; then mend the disk, resume and compare."""
    error, all_calls = FAILURES[failure]
    attack = f"{failure} from call {n}: {ground.whole(subject).ended.calls[n - 1]}"
    return fail(ground, subject, attack, leaves_nothing=not all_calls, call=n, error=error, all_calls=all_calls)


def file_size_limited(ground: Ground, subject: Subject, size_bytes: int) -> Result:
    """No file may be larger (setrlimit), as under a quota."""
    attack = f"files of at most {size_bytes:,} bytes"
    return fail(ground, subject, attack, leaves_nothing=True, file_size_bytes=size_bytes)


def small_disk(ground: Ground, subject: Subject, size_bytes: int) -> Result:
    """The run folder is a file system of this size in memory, which gets larger before the resumption."""
    run = Run(ground, subject, "small-disk")
    attack = f"a disk of {size_bytes:,} bytes"
    with _mounted(run.folder, size_bytes):
        ended = run.start()
        if wrong := forbidden(ended) or _unclear(ended.statuses, ended.output):
            return Result(subject.name, attack, wrong, tail(ended.output))
        if left := _left_overs(run.folder):
            return Result(subject.name, attack, "leaves temporary files", "\n".join(left))
        _mount("remount,size=1g", run.folder)
        return _resumed(run, attack, tail(ended.output))


def can_mount() -> bool:
    """Whether this process may mount a file system."""
    return hasattr(os, "geteuid") and os.geteuid() == 0 and os.path.exists("/proc/self/mounts")


def fail(ground: Ground, subject: Subject, attack: str, *, leaves_nothing: bool, **fault: Any) -> Result:
    """Start a run that must fail with a clear error; then resume it without the fault, and compare.

    Args:
        leaves_nothing: no temporary file may be left behind, since it would keep the disk full.
    """
    run = Run(ground, subject, "failing")
    ended = run.start(**fault)
    if wrong := forbidden(ended) or _unclear(ended.statuses, ended.output):
        return Result(subject.name, attack, wrong, tail(ended.output))
    if leaves_nothing and (left := _left_overs(run.folder)):
        return Result(subject.name, attack, "leaves temporary files", "\n".join(left))
    return _resumed(run, attack, tail(ended.output))


def _resumed(run: Run, attack: str, error: str) -> Result:
    name, last = run.subject.name, run.finish()
    if wrong := forbidden(last) or (f"ends with {last.statuses}" if any(last.statuses) else None):
        return Result(name, attack, f"resumed: {wrong}", tail(last.output))
    if different := run.compare():
        return Result(name, attack, "differs", "\n".join(different))
    run.remove()
    return Result(name, attack, ERROR, error)


@contextmanager
def _mounted(folder: Path, size_bytes: int) -> Generator[None]:
    folder.mkdir(parents=True)
    _mount(f"size={size_bytes}", folder)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _mount(options: str, folder: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)


def _unclear(statuses: Sequence[int], output: str) -> str | None:
    if set(statuses) != {USER_ERROR}:
        return f"silent: ends with {list(statuses)}"
    return None if "Error: " in output else "no error is shown"


def _left_overs(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob(".*.tmp*"))
