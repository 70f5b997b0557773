"""Rewards of answers that are mathematics, compared by math-verify in a process of its own.

math-verify bounds its time by signals, which work in the main thread only, and not inside one long instruction. Here
a helper process does the work under the kernel's limits (see `math_worker.py`): right in any thread, whatever the
text. The process starts with the first comparison (about two seconds), serves all of them, and is replaced when a
text brings it down.
"""

from __future__ import annotations

import atexit
import functools
import json
import subprocess
import sys
import threading
from pathlib import Path

from vlm_r1.parsing.limits import MAX_EXPRESSION_CHARS
from vlm_r1.rewards.base import RewardInput, unsuitable

_WORKER = Path(__file__).with_name("math_worker.py")


def math_reward(given: RewardInput[str | int | float]) -> float:
    """1 if answer and gold have the same mathematical value, or are the same text, else 0.

    Source: `math` of the original VLM-R1 (math-verify, then equality of texts), which however cannot read a gold
    formula without dollar signs.

    Raises:
        DataError: the record's gold answer is neither a text nor a number.
    """
    if not isinstance(given.gold, str | int | float) or isinstance(given.gold, bool):
        raise unsuitable(given, "math", "formulas or numbers")
    return 0.0 if given.value is None else float(same_mathematics(str(given.gold), str(given.value)))


@functools.lru_cache(maxsize=4096)  # reward and metric ask the same question
def same_mathematics(gold: str, answer: str) -> bool:
    """Whether two texts are equal, or mean the same value; never raises for what they hold.

    Not equal, too, if either is longer than `MAX_EXPRESSION_CHARS`, or if comparing them takes more processor time or
    memory than `math_worker.py` allows.

    >>> same_mathematics("\\\\frac{1}{2}", "0.5"), same_mathematics("42", "$41$"), same_mathematics("1", "9^{9^{9^9}}")
    (True, False, False)
    """
    if gold.strip() == answer.strip():
        return True
    return max(len(gold), len(answer)) <= MAX_EXPRESSION_CHARS and _CHECKER.ask(gold, answer)


def ended_comparisons() -> int:
    """How many comparisons this process has ended because they took too much; each of them counted as not equal."""
    return _CHECKER.ended


class Checker:
    """The helper process; one question at a time, from any thread.

    Attributes:
        ended: how many questions have brought it down.
    """

    def __init__(self) -> None:
        self.ended = 0
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, gold: str, answer: str) -> bool:
        """Whether the two are equal; not, if the process ended over them."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self.close()
                self._process = _start()
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps([gold, answer]).encode() + b"\n")
            reply = _read_byte(self._process)
            if not reply:
                self.ended += 1
                self.close()
            return reply == b"1"

    def close(self) -> None:
        """End the process, if there is one: it ends with its input."""
        if self._process is not None:
            self._process.communicate()  # closes the pipes, and waits
            self._process = None


def _start() -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-P", str(_WORKER)],  # -P: this folder's numbers.py and math.py must not hide Python's own
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,  # Ctrl-C is for the training to handle
    )
    if _read_byte(process) != b"1":
        process.kill()
        process.communicate()
        raise RuntimeError(f"{_WORKER.name} did not start, see above; is math-verify installed as pyproject.toml asks?")
    return process


def _read_byte(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.read(1)


_CHECKER = Checker()
atexit.register(_CHECKER.close)
