"""A helper process that compares mathematics, one question at a time.

math-verify limits its time by signals, which only work in the main thread, and not during one long instruction. A
process under the kernel's limits works for every text and from any thread. It starts with the first question, which
takes about two seconds, and answers all questions. A text that makes it end costs the time limit and no new start, see
`math_server.py`.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from vlm_r1.rewards.helper import Helper
from vlm_r1.rewards.math_server import ENDED


class MathProcess(Helper):
    """Asks a program for `math_server.py`.

    Args:
        program: the file of the program.
    """

    def __init__(self, program: Path) -> None:
        super().__init__(Path(__file__).with_name("math_server.py"))
        self._questions = program

    def ask(self, first: str, second: str) -> bytes:
        """Return the program's reply, one byte; `b""` if it ended over this question. May be called from any thread."""
        with self.lock:
            # twice: whoever killed the process may not have meant this question
            reply = self._ask_once(first, second) or self._ask_once(first, second)
        return b"" if reply == ENDED else reply

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the program, and wait until it is ready."""
        process = super().start(*arguments, str(self._questions))
        if _read_byte(process) != b"1":
            process.kill()
            process.communicate()
            raise RuntimeError(
                f"{self._questions} did not start, see above; is math-verify installed as pyproject.toml asks?"
            )
        return process

    def _ask_once(self, first: str, second: str) -> bytes:
        """Return the reply; `b""` if the process is gone."""
        process = self.running()
        assert process.stdin is not None
        reply = b""
        try:
            process.stdin.write(json.dumps([first, second]).encode() + b"\n")
            reply = _read_byte(process)
        except BrokenPipeError:
            pass
        finally:  # interrupted, as by Ctrl-C, it would give this reply to the next question
            if not reply:
                self.kill()
        return reply


def _read_byte(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.read(1)
