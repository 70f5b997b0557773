"""A helper process that compares mathematics, one question at a time.

math-verify limits its time by signals, which only work in the main thread, and not during one long instruction. A
process under the kernel's limits works for every text and from any thread. It starts with the first question (which
takes about two seconds), answers all questions, and is replaced when a text makes it end.
"""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import threading
from pathlib import Path


class MathProcess:
    """Runs a program that writes one byte when it is ready, and then one byte for each line of JSON `[text, text]`.

    Args:
        program: the file of the program.
    """

    def __init__(self, program: Path) -> None:
        self._program = program
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def ask(self, first: str, second: str) -> bytes:
        """Return the program's reply, one byte; `b""` if it ended over this question. May be called from any thread."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self.close()
                self._process = self._start()
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps([first, second]).encode() + b"\n")
            reply = _read_byte(self._process)
            if not reply:
                self.close()
            return reply

    def close(self) -> None:
        """End the process, if there is one, by closing its input."""
        if self._process is not None:
            self._process.communicate()  # closes the pipes, and waits
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                str(self._program),
            ],  # -P: files in its folder, such as numbers.py, must not hide Python's own
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # the training handles Ctrl-C
        )
        if _read_byte(process) != b"1":
            process.kill()
            process.communicate()
            raise RuntimeError(
                f"{self._program} did not start, see above; is math-verify installed as pyproject.toml asks?"
            )
        return process


def _read_byte(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.read(1)
