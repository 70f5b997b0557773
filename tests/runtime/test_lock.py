"""A folder has one writing process: between real processes, at the same instant, and after a kill."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import vlm_r1
from vlm_r1.errors import CheckpointError
from vlm_r1.runtime.lock import FILE, Lock, lock_folder

HOLD = """
import sys, time
from pathlib import Path
from vlm_r1.errors import CheckpointError
from vlm_r1.runtime.lock import lock_folder
start = float(sys.argv[2])
while time.time() < start:
    pass
try:
    lock = lock_folder(Path(sys.argv[1]))
except CheckpointError as error:
    print(error, flush=True)
    sys.exit(2)
print("locked", flush=True)
sys.stdin.read()
lock.release()
"""

FORK = """
import os, sys, time
from pathlib import Path
from vlm_r1.runtime.lock import lock_folder
lock = lock_folder(Path(sys.argv[1]))
child = os.fork()
if not child:
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
time.sleep(60)
"""


def run(program: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(vlm_r1.__file__).parents[1])}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def holding(folder: Path) -> subprocess.Popen[str]:
    process = run(HOLD, str(folder), "0")
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_another_process_is_refused_and_told_who_holds_the_lock(tmp_path) -> None:
    holder = holding(tmp_path / "run")
    with pytest.raises(CheckpointError, match=rf"process {holder.pid} on {socket.gethostname()} .*since 20\d\d-"):
        lock_folder(tmp_path / "run")
    with pytest.raises(CheckpointError, match="choose another --output_dir"):
        lock_folder(tmp_path / "run/../run")
    holder.communicate("")
    assert holder.returncode == 0
    assert not (tmp_path / "run").exists(), "the folder was made for the lock, and is empty"
    lock_folder(tmp_path / "run").release()


def test_through_a_link_it_is_the_same_folder(tmp_path) -> None:
    holder = holding(tmp_path / "run")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with pytest.raises(CheckpointError, match=f"process {holder.pid}"):
        lock_folder(tmp_path / "link")
    end(holder)


def test_a_killed_process_leaves_no_lock(tmp_path) -> None:
    holder = holding(tmp_path / "run")
    end(holder)
    assert (tmp_path / "run" / FILE).exists()
    lock = lock_folder(tmp_path / "run")
    assert json.loads((tmp_path / "run" / FILE).read_text())["pid"] == os.getpid()
    lock.release()
    assert (tmp_path / "run").exists(), "it was there before"
    assert not (tmp_path / "run" / FILE).exists()


def lock_soon(folder: Path) -> Lock:
    """Lock a folder once the forked child has run for a moment, in which it closes its copy of the lock."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return lock_folder(folder)
        except CheckpointError:
            assert time.monotonic() < deadline, "the child keeps the lock"
            time.sleep(0.01)


def test_a_forked_child_does_not_keep_the_lock_of_a_killed_process(tmp_path) -> None:
    process = run(FORK, str(tmp_path / "run"))
    assert process.stdout is not None
    child = int(process.stdout.readline())
    with pytest.raises(CheckpointError, match=f"process {process.pid}"):
        lock_folder(tmp_path / "run")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    lock = lock_soon(tmp_path / "run")
    os.kill(child, 0)  # it lives
    lock.release()
    os.kill(child, signal.SIGKILL)
    process.communicate()


def test_of_many_at_the_same_instant_one_wins(tmp_path) -> None:
    for attempt in range(3):
        start = str(time.time() + 1.5)
        processes = [run(HOLD, str(tmp_path / f"new-{attempt}" / "run"), start) for _ in range(6)]
        lines = [process.stdout.readline() for process in processes if process.stdout is not None]
        assert sorted(line == "locked\n" for line in lines) == [False] * 5 + [True], lines
        for process in processes:
            process.communicate("")
        assert sorted(process.returncode for process in processes) == [0, 2, 2, 2, 2, 2]
        # the folder goes with the lock if the winner made it; one that a loser made may stay, and is empty
        assert [path for path in (tmp_path / f"new-{attempt}").rglob("*") if not path.is_dir()] == []


def test_within_one_process_too(tmp_path) -> None:
    with lock_folder(tmp_path), pytest.raises(CheckpointError, match=f"process {os.getpid()} "):
        lock_folder(tmp_path)
    lock_folder(tmp_path).release()


def test_a_lock_knows_whether_its_folder_is_still_there(tmp_path) -> None:
    lock = lock_folder(tmp_path / "run")
    assert lock.is_in_place()
    (tmp_path / "run").rename(tmp_path / "moved")
    assert lock.is_in_place(), "nobody else is there"
    other = lock_folder(tmp_path / "run")
    assert not lock.is_in_place()
    assert other.is_in_place()
    lock.release()
    assert (tmp_path / "run" / FILE).exists(), "another one's lock is left alone"
    other.release()


def test_a_folder_that_cannot_be_made(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be locked"):
        lock_folder(tmp_path / "file" / "run")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that can never be made")
def test_a_folder_that_can_never_be_made_is_an_error_and_no_endless_loop() -> None:
    with pytest.raises(CheckpointError, match="cannot be locked"):
        lock_folder(Path("/proc/no such/run"))


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "link to nothing", "device"])
def test_what_is_no_lock_is_neither_followed_nor_overwritten(kind, tmp_path) -> None:
    """A folder from a stranger may hold a link to a file of the user in the place of the lock."""
    precious, lock = tmp_path / "precious", tmp_path / "run/.lock"
    precious.write_text("mine")
    lock.parent.mkdir()
    if kind == "hard link":
        lock.hardlink_to(precious)
    elif kind == "pipe":
        os.mkfifo(lock)
    else:
        lock.symlink_to({"link": precious, "link to nothing": tmp_path / "new", "device": Path("/dev/null")}[kind])
    with pytest.raises(CheckpointError, match=r"\.lock: (cannot be locked|is no lock)"):
        lock_folder(lock.parent)
    assert precious.read_text() == "mine"
    assert not (tmp_path / "new").exists()
    lock.unlink()
    lock_folder(lock.parent).release()
