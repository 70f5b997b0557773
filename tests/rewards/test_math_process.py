"""The helper process of mathematics: what ends it, what must not, and who may share it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import vlm_r1
from vlm_r1.rewards import math_worker
from vlm_r1.rewards.helper import Helper
from vlm_r1.rewards.math_process import MathProcess
from vlm_r1.rewards.math_server import ENDED

ENDLESS = "9^{9^{9^{9}}}"
HALF = ("\\frac{1}{2}", "0.5")
PATH = str(Path(vlm_r1.__file__).parents[1])


@pytest.fixture
def checker():
    checker = MathProcess(Path(math_worker.__file__))
    assert checker.ask(*HALF) == b"1"
    yield checker
    checker.close()


def child_of(checker: Helper) -> psutil.Process:
    [child] = psutil.Process(checker.running().pid).children()
    return child


def test_comparisons_that_are_ended_need_no_new_start(checker):
    assert len(ENDED) == 1, "every reply is one byte"
    server, first = checker.running().pid, child_of(checker).pid
    assert [checker.ask(*question) for question in [("1", ENDLESS), HALF, ("1", ENDLESS), ("2", "3")]] == [
        b"",
        b"1",
        b"",
        b"0",
    ]
    assert checker.running().pid == server, "what was loaded stays loaded"
    assert child_of(checker).pid != first, "the control: the child did end"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_signals_for_everybody_do_not_end_it(checker, name):
    server, child = checker.running().pid, child_of(checker).pid
    os.killpg(server, getattr(signal, name))
    assert checker.ask(*HALF) == b"1"
    assert (checker.running().pid, child_of(checker).pid) == (server, child)


@pytest.mark.parametrize("whom", ["server", "child"])
def test_a_kill_between_two_questions_changes_no_reply(checker, whom):
    os.kill(checker.running().pid if whom == "server" else child_of(checker).pid, signal.SIGKILL)
    assert [checker.ask(*question) for question in [HALF, ("2", "3"), HALF, ("2", "3")]] == [b"1", b"0", b"1", b"0"]


def test_an_interrupted_question_does_not_answer_the_next(checker):
    def interrupt(number, frame):
        raise InterruptedError

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(InterruptedError):
            checker.ask("1", ENDLESS)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert [checker.ask("2", "3"), checker.ask(*HALF)] == [b"0", b"1"]


FORK = """
import os
from vlm_r1.rewards.math import same_mathematics as same
assert same("x + 1", "1 + x")
child = os.fork()
for n in range(30):
    assert same(f"x + {n}", f"{n} + x"), n
    assert not same(f"x + {n}", f"{n + 1} + x"), n
if child:
    assert os.waitpid(child, 0)[1] == 0
    assert same("y + 1", "1 + y")
"""


def test_parent_and_forked_child_ask_helpers_of_their_own():
    environment = {**os.environ, "PYTHONPATH": PATH}
    done = subprocess.run([sys.executable, "-c", FORK], env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


ORPHAN = """
import os, signal, sys, time
from vlm_r1.rewards.math import _PROCESS, same_mathematics
assert same_mathematics("x + 1", "1 + x")
if os.fork() == 0:  # a child that lives on must not keep the helper
    os.close(1)
    os.close(2)
    time.sleep(40)
print(_PROCESS.running().pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_ends_with_its_parent():
    environment = {**os.environ, "PYTHONPATH": PATH}
    done = subprocess.run([sys.executable, "-c", ORPHAN], env=environment, capture_output=True, text=True, timeout=60)
    server, deadline = int(done.stdout), time.monotonic() + 30
    while psutil.pid_exists(server) and psutil.Process(server).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.1)
