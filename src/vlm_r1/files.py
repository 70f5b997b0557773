"""Opens files that must be regular files: a pipe or a device in the place of a file can block for ever."""

from __future__ import annotations

import errno
import io
import os
import stat
from functools import cache
from typing import BinaryIO

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)

_NO_PATH = "no path of this system"

_KERNEL_FOLDERS = ("/proc", "/sys")
"""File systems whose regular files are made by the kernel while they are read, without an end or a size."""


def regular_only(path: str, flags: int) -> int:
    """Open a regular file, for `open(path, opener=regular_only)`. Nothing else is opened, and nothing is waited for.

    What was opened is looked at once more, so that a pipe cannot take the place of the file in between.

    Raises:
        OSError: there is no such file, or it is no regular one; `strerror` says what it is.
    """
    try:
        _check(path, os.stat(path))  # opening a device can already do something
        descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
    except ValueError:  # a NUL, half a surrogate pair
        raise OSError(errno.EINVAL, _NO_PATH, path) from None
    try:
        _check(path, os.fstat(descriptor))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _check(path: str, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "something else")
        raise OSError(errno.EINVAL, f"it is {kind}, wanted a regular file", path)
    if found.st_dev in _kernel_devices():
        raise OSError(errno.EINVAL, "it is made by the kernel, wanted a regular file", path)


@cache
def _kernel_devices() -> frozenset[int]:
    return frozenset(os.stat(folder).st_dev for folder in _KERNEL_FOLDERS if os.path.ismount(folder))


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file to read its bytes; OSError as in `regular_only`, also for what is no path of this system."""
    try:
        return open(path, "rb", opener=regular_only)
    except ValueError:  # a NUL, half a surrogate pair: found before the opener is asked
        raise OSError(errno.EINVAL, _NO_PATH, os.fspath(path)) from None


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Read a regular file; OSError as in `open_regular`."""
    with open_regular(path) as file:
        return file.read()


def read_text(path: str | os.PathLike[str], encoding: str = "utf-8") -> str:
    """Read a regular file as text, with \\n at the end of each line; OSError as in `open_regular`.

    Raises:
        UnicodeDecodeError: it is not of this encoding.
    """
    with io.TextIOWrapper(open_regular(path), encoding) as file:
        return file.read()
