"""Signals: a run ends after its step and is saved, and everything else ends at once (docs/stopping.md).

A program that a signal n ended prints one line and has the exit status 128 + n, as in a shell.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlm_r1.config import Config

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
"""Signals that ask for a stop: Ctrl-C, the schedulers' wish, a warning by Slurm, a closed terminal."""

FAILED = 1
"""Exit status of a process that ends because another process of its run has ended."""

_ECHO_S = 2.0
"""Seconds in which a signal counts once under torchrun: Ctrl-C reaches every process, and torchrun sends it again."""

_LAST = b"\xff"
"""Byte that ends the reading of signals; no signal has this number."""

_POLL_S = 1.0
"""Seconds between two looks at the other processes."""


class Stopped(KeyboardInterrupt):
    """A signal has ended the program, or a callback a run. This is no error.

    Attributes:
        number: the signal; 0: a callback asked.
        run: recipe of the run whose report is due; None: there is no run, or another process writes the report.
    """

    def __init__(self, number: int, message: str = "", run: Config | None = None) -> None:
        super().__init__(message or f"stopped by {name_of(number)}")
        self.number = number
        self.run = run

    @property
    def exit_status(self) -> int:
        """128 + the number of the signal; 0 without one."""
        return 128 + self.number if self.number else 0


def name_of(number: int) -> str:
    """Return the name of a signal.

    >>> name_of(15)
    'SIGTERM'
    """
    return signal.Signals(number).name


def n_launched() -> int:
    """Return how many processes the launcher (torchrun, accelerate) says it started for this run; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def ending_at_once() -> Generator[None]:
    """Let a signal raise `Stopped` where the program stands, and a second one end the process.

    Signals that the parent has ignored (`nohup`) stay ignored. A SIGTERM to one process of several keeps its default,
    which ends the process even while it waits for the others inside a library.
    """

    def end(number: int, _: Any) -> None:
        for other in handlers:
            signal.signal(other, signal.SIG_DFL)
        raise Stopped(number)

    handlers = _heeded() - ({signal.SIGTERM} if n_launched() > 1 else set())
    with _handling(dict.fromkeys(handlers, end)):
        yield


class StopRequest:
    """Notices signals while a run trains: the first asks the run to stop, and a second ends the process at once.

    A thread reads the signals. So they are noticed, and a second one ends the process, while the main thread is busy
    inside a library or waits for other processes. The thread also ends this process if another one of the run ended.

    In an interactive Python, such as that of a notebook, a second signal ends the run at once, but not the process.

    Args:
        peers: process ids of the other processes of the run on this machine, by rank.
        tells: print a line when the run is asked; one process of a run does.
    """

    def __init__(self, peers: Mapping[int, int] | None = None, tells: bool = True) -> None:
        self.asked = 0
        """Number of the signal that asked for the stop; 0: none."""
        self.agreed = False
        """Whether all processes are about to end, so that a missing one is no failure."""
        self._peers = {rank: pid for rank, pid in (peers or {}).items() if _lives(pid)}
        self._tells = tells
        self._interactive = hasattr(sys, "ps1")
        self._noted = 0

    @contextmanager
    def watching(self) -> Generator[None]:
        """Notice signals until the end of the block; only in the main thread, to which Python gives signals."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        thread = threading.Thread(target=self._read, args=(reader,), name="signals", daemon=True)
        thread.start()
        try:
            with _handling(dict.fromkeys(_heeded(), self._note)):
                yield
        finally:
            signal.set_wakeup_fd(before)
            os.write(writer, _LAST)  # a process that a reward forked may hold the pipe open
            thread.join()
            os.close(writer)
            os.close(reader)

    def _read(self, reader: int) -> None:
        """Handle the number of each signal, which Python's own handler writes into the pipe, until `_LAST` comes."""
        first = 0.0
        while True:
            ready, _, _ = select.select([reader], [], [], _POLL_S)
            number = os.read(reader, 1) if ready else b"\0"
            if number == _LAST:
                return
            self._look_at_peers()
            if number[0] not in SIGNALS:
                continue
            if not self.asked:
                self.asked, first = number[0], time.monotonic()
                if self._tells:
                    _say(f"{name_of(self.asked)}: stopping after this step; again to end at once")
            elif self._interactive:
                pass  # `_note` raises, in the main thread
            elif "TORCHELASTIC_RUN_ID" not in os.environ or time.monotonic() - first > _ECHO_S:
                _end(f"{name_of(number[0])}: ended at once", 128 + number[0])

    def _note(self, number: int, _: Any) -> None:
        """Do nothing: the signal stands in the pipe, and without any handler it would end the process.

        Raises:
            Stopped: it is a second one in an interactive Python.
        """
        self._noted += 1
        if self._interactive and self._noted > 1:
            raise Stopped(number, f"{name_of(number)}: ended at once; the last checkpoint counts")

    def _look_at_peers(self) -> None:
        if self.agreed:
            return
        for rank, pid in self._peers.items():
            if not _lives(pid):
                _end(f"process {rank} of this run (pid {pid}) has ended; see its message. So this one ends", FAILED)


def _heeded() -> set[signal.Signals]:
    return {number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}


@contextmanager
def _handling(handlers: Mapping[signal.Signals, Callable[[int, Any], None]]) -> Generator[None]:
    """Install handlers for a block, in the main thread; after a first signal they may have become the default."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, old in before.items():
            if signal.getsignal(number) is handlers[number]:
                signal.signal(number, signal.SIG_DFL if old is None else old)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _say(line: str) -> None:
    """Write a line to standard error without Python's buffers, whose lock the main thread may hold."""
    os.write(2, f"\n{line}\n".encode())


def _end(line: str, status: int) -> None:
    _say(line)
    os._exit(status)


def command_to_resume(stage: str, recipe: Path, processes: int = 1, processes_here: int = 1) -> str:
    """Return the command that continues a run, as one types it into a shell.

    Args:
        stage: "grpo" or "sft".
        processes: number of processes of the run.
        processes_here: number of those on this machine.

    >>> command_to_resume("grpo", Path("runs/a b/config.yaml"))
    "vlm-r1 train 'runs/a b/config.yaml' --resume"
    >>> command_to_resume("sft", Path("run/config.yaml"), processes=2, processes_here=2)
    'torchrun --nproc_per_node 2 -m vlm_r1.cli.main sft run/config.yaml --resume'
    """
    machines = f"--nnodes {processes // processes_here} " if processes > processes_here else ""
    several = f"torchrun {machines}--nproc_per_node {processes_here} -m vlm_r1.cli.main"
    command = "sft" if stage == "sft" else "train"
    return f"{several if processes > 1 else 'vlm-r1'} {command} {shlex.quote(str(recipe))} --resume"
