"""Keeps standard output and error open while a function from outside runs, which may close or replace them."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any

from vlm_r1.config.secrets import without_values


@contextmanager
def kept_output() -> Generator[Callable[[], bool]]:
    """Lend `sys.stdout` and `sys.stderr`, and put back their objects and their descriptors (1 and 2) at the end.

    Yields:
        A function that returns, after the end, whether they had been closed or replaced.
    """
    changed: list[bool] = []
    own = sys.stdout, sys.stderr
    lent = tuple(stream and _Lent(stream) for stream in own)
    copies = {number: copy for number in (1, 2) if (copy := _copy(number)) is not None}
    sys.stdout, sys.stderr = lent
    try:
        yield lambda: bool(changed)
    finally:
        if (sys.stdout, sys.stderr) != lent or any(stream.closed for stream in lent if stream is not None):
            changed.append(True)
        sys.stdout, sys.stderr = own
        changed += [True for number, copy in copies.items() if _put_back(number, copy)]


class _Lent(io.TextIOBase):
    """A stream that may be closed: what is written goes to another one, which stays open."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream

    def write(self, text: str, /) -> int:
        """Write to the other stream; a key that the function was given is masked, as in a warning that it causes."""
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        self._stream.write(without_values(text))
        return len(text)

    def flush(self) -> None:
        """Flush the other stream."""
        self._stream.flush()

    def fileno(self) -> int:
        """Return the descriptor of the other stream."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Return whether the other stream is a terminal."""
        return self._stream.isatty()

    @property
    def encoding(self) -> Any:  # type: ignore[reportIncompatibleVariableOverride]
        """That of the other stream."""
        return self._stream.encoding

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _copy(number: int) -> int | None:
    try:
        return os.dup(number)
    except OSError:  # it is not open
        return None


def _put_back(number: int, copy: int) -> bool:
    """Let a descriptor lead where its copy leads, and close the copy; returns whether it led elsewhere."""
    moved = not _is_same(number, copy)
    with suppress(OSError):  # the function closed the copy as well
        if moved:
            os.dup2(copy, number)
        os.close(copy)
    return moved


def _is_same(number: int, copy: int) -> bool:
    try:
        one, other = os.fstat(number), os.fstat(copy)
    except OSError:
        return False
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
