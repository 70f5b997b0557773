"""A helper: a program of ours that runs in a process beside this one and reads what it has to do from a pipe."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path


class Helper:
    """A helper process. It starts when it is first needed, and ends when its input ends, thus with this process.

    A child that this process forks closes its copy of the pipes and starts a helper of its own: two processes that
    share a pipe would read each other's replies.

    Args:
        program: the file of the program.
    """

    def __init__(self, program: Path) -> None:
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self.lock = threading.RLock()
        atexit.register(self.close)
        os.register_at_fork(after_in_child=self.forget)

    def running(self) -> subprocess.Popen[bytes]:
        """Return the process; start it if there is none, or if it has ended. The caller holds `lock`."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = self.start()
        return self._process

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the program. It is in a session of its own: Ctrl-C in the terminal is for this process."""
        return subprocess.Popen(
            # -P: files in the program's folder, such as numbers.py, must not hide Python's own
            [sys.executable, "-P", str(self._program), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )

    def close(self) -> None:
        """End the process, if there is one, by closing its input, and wait for its end."""
        process, self._process = self._process, None
        if process is not None:
            process.communicate()

    def kill(self) -> None:
        """End the process at once, if there is one."""
        if self._process is not None:
            self._process.kill()
        self.close()

    def forget(self) -> None:
        """Close the pipes and do not wait for the process: in a forked child it is the parent's, as is the lock."""
        self.lock = threading.RLock()
        process, self._process = self._process, None
        if process is not None:
            for pipe in filter(None, (process.stdin, process.stdout)):
                with suppress(OSError):  # somebody else closed it
                    pipe.close()
            process.returncode = 0  # else it is waited for, and missed
