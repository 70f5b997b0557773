"""Locks: one process at a time writes a folder or an output. The kernel releases them when a process ends, however."""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
import weakref
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from vlm_r1.errors import CheckpointError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

FILE = ".lock"

_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors of file systems that cannot lock, such as NFS without its lock daemon."""


_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

_ATTEMPTS = 100
"""Others remove a folder while we lock it a few times at most; a folder that can never be made is always missing."""


class Lock:
    """A file that this process has locked; `lock_folder` and `lock_output` make it.

    A process that a reward forks does not hold the lock: it may live on after a kill of this one.

    Attributes:
        exclusive: False if the file system cannot lock, so that another process may write there too.
    """

    def __init__(self, file: Path, descriptor: int, exclusive: bool, made: tuple[Path, ...]) -> None:
        self.exclusive, self._file, self._made = exclusive, file, made
        self._inode = _inode(os.fstat(descriptor))
        self._close = weakref.finalize(self, os.close, descriptor)
        _HELD.add(self)

    def is_in_place(self) -> bool:
        """Return whether the folder at this path is still the one that was locked, or its lock file was removed."""
        try:
            return _inode(self._file.stat()) == self._inode
        except OSError:
            return True

    def release(self) -> None:
        """Remove the lock file, and the folders that were made for it if they are empty, and release the lock."""
        if not self._close.alive:
            return
        try:
            if _inode(self._file.stat()) == self._inode:
                self._file.unlink()
            for folder in self._made:
                folder.rmdir()
        except OSError:  # moved, or no longer empty
            pass
        self._close()

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()

    def forget(self) -> None:
        """Close this process's copy of the file, without an effect on the lock of the process that forked it."""
        self._close()


def lock_folder(folder: Path, option: str = "--output_dir") -> Lock:
    """Lock a folder for this process, and make it if it is missing.

    Args:
        option: the one that names the folder, for the message.

    The lock is `flock` on the file `.lock` in the folder, which says which process holds it. It holds between processes
    of one machine on every file system, and between machines on those that pass locks on, as NFS and Lustre do.

    Raises:
        CheckpointError: another process holds the lock (the message has its number, its host and since when), or the
            folder cannot be made.
    """
    return _take(folder / FILE, folder, option)


def lock_output(path: Path, option: str = "--out") -> Lock:
    """Lock a file or folder that this process will write as a whole, by the file `.NAME.lock` beside it.

    Args:
        option: the one that names the output, for the message.

    Raises:
        CheckpointError: as `lock_folder`.
    """
    return _take(path.with_name(f".{path.name}.lock"), path, option)


def _take(file: Path, locked: Path, option: str) -> Lock:
    made = tuple(parent for parent in file.parents if not parent.exists())
    attempts = 0
    while True:
        attempts += 1
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, _OPEN, 0o644)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and attempts < _ATTEMPTS:
                continue  # the process that had made the folder removed it in between
            raise CheckpointError(
                f"{file}: cannot be locked: {error.strerror}. Wanted a file in a writable folder"
            ) from error
        try:
            _check_own(descriptor, file)
            exclusive = _lock(descriptor)
            if exclusive is None:
                raise CheckpointError(_in_use(locked, descriptor, option))
            if _is_file(descriptor, file):  # else its holder removed it before we had the lock
                _sign(descriptor)
                return Lock(file, os.dup(descriptor), exclusive, made)
        finally:
            os.close(descriptor)


def _check_own(descriptor: int, file: Path) -> None:
    """Refuse what no lock has made, since a lock overwrites it; a stranger's folder may hold anything."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        raise CheckpointError(f"{file}: is no lock: it is no regular file, or a link to one. Remove it")


def _lock(descriptor: int) -> bool | None:
    """Try to lock; returns None if another process holds the lock, False if the file system has no locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return None
    return True


def _is_file(descriptor: int, path: Path) -> bool:
    try:
        return _inode(path.stat()) == _inode(os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _sign(descriptor: int) -> None:
    """Write into the lock file who holds it."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": since}).encode(), 0)


def _in_use(locked: Path, descriptor: int, option: str) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        who = f"process {holder['pid']} on {holder['host']} has been writing here since {holder['since']}"
    except (ValueError, KeyError, TypeError):  # it has not signed yet
        who = "another process is writing here"
    return f"{locked}: {who}. Wait for its end or stop it, or choose another {option}"


_HELD: weakref.WeakSet[Lock] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in list(_HELD):
        lock.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
