"""The supervisor sees every call that writes below a folder, and only those; it lets one fail, or kills before it."""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.survival import syscalls

pytestmark = [
    pytest.mark.skipif(not syscalls.is_offered(), reason="needs Linux on x86-64 with user notification"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),  # the child only makes system calls
]


def supervised(action: Callable[[], object], folder: Path, decide: Callable[[int, syscalls.Call], int]):
    """Run an action in a child; `decide(n, call)` gives the error of its n-th call, or -1 to kill it.

    Returns:
        Its calls below the folder, and its exit code.
    """
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        socket.send_fds(theirs, [b"1"], [syscalls.ask_before_calls()])
        try:
            action()
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 1)
    (listener,) = socket.recv_fds(ours, 1, 1)[1]
    exited, calls = os.pidfd_open(child), list[str]()
    while listener in [ready for ready, _ in _ready(listener, exited)]:
        request = syscalls.receive(listener, str(folder))
        if request is None:
            continue
        error = 0
        if request.call is not None:
            calls.append(str(request.call))
            error = decide(len(calls), request.call)
        if error < 0:
            os.kill(child, signal.SIGKILL)
            break
        syscalls.answer(listener, request, error)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    for descriptor in (listener, exited):
        os.close(descriptor)
    ours.close()
    theirs.close()
    return calls, code


def _ready(listener: int, exited: int) -> list[tuple[int, int]]:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(exited, select.POLLIN)
    return [(ready, event) for ready, event in poll.poll(10_000) if event & select.POLLIN]


def write_things(folder: Path) -> None:
    """Calls of many kinds; those outside the folder and those that only read do not count."""
    (folder / "a").mkdir()
    descriptor = os.open(folder / "a/b", os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, b"12")
    os.pwrite(descriptor, b"3", 2)
    os.ftruncate(descriptor, 1)
    os.fsync(descriptor)
    os.close(descriptor)
    os.replace(folder / "a/b", folder / "c")
    (folder / "c").read_bytes()
    (folder.parent / "elsewhere").write_bytes(b"x")
    os.chdir(folder)
    Path("d").write_text("relative")
    shutil.rmtree(folder / "a")  # by descriptors
    os.unlink("c")


CALLS = [
    "mkdir a",
    "openat a/b",
    "write a/b",
    "pwrite64 a/b",
    "ftruncate a/b",
    "fsync a/b",
    "rename a/b → c",
    "openat d",
    "write d",
    "rmdir a",
    "unlink c",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path.resolve() / "run"
    inside.mkdir()
    return inside


def test_every_call_below_the_folder_is_seen(folder) -> None:
    calls, code = supervised(lambda: write_things(folder), folder, lambda n, call: 0)
    assert (calls, code) == (CALLS, 0)
    assert [path.name for path in folder.iterdir()] == ["d"]


@pytest.mark.parametrize("n", range(1, len(CALLS) + 1))
def test_it_dies_before_the_call(n, folder) -> None:
    """What the calls before have done is there, and what the call would have done is not."""
    calls, code = supervised(lambda: write_things(folder), folder, lambda number, call: -1 if number == n else 0)
    assert (calls, code) == (CALLS[:n], -signal.SIGKILL)
    assert (folder / "a").exists() == (1 < n < 11)
    assert (folder / "a/b").exists() == (2 < n < 8)
    assert (folder / "c").exists() == (n > 7)


def test_a_disk_gets_full(folder) -> None:
    def decide(n: int, call: syscalls.Call) -> int:
        return errno.ENOSPC if n >= 4 and call.name in syscalls.GROWING else 0

    calls, code = supervised(lambda: write_things(folder), folder, decide)
    assert (calls, code) == (CALLS[:4], errno.ENOSPC)
    assert (folder / "a/b").read_bytes() == b"12"
