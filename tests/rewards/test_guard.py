"""Functions from outside that do not return, leave the process, or leave it changed. Each is a program of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import vlm_r1
from testing_functions import from_outside, given
from vlm_r1.errors import ConfigError
from vlm_r1.rewards.awaiting import await_all
from vlm_r1.rewards.call import call_reward, resolve_reward
from vlm_r1.rewards.watcher import GRACE_S

BAD = """
import asyncio, os, re, signal, socket, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor

def sleeps(given): time.sleep(1e6)
def loops(given):
    while True: pass
def swallows(given):
    while True:
        try: time.sleep(1)
        except Exception: pass
def swallows_all(given):
    while True:
        try: time.sleep(1)
        except BaseException: pass
async def awaits(given): await asyncio.sleep(1e6)
async def blocks_the_event_loop(given): time.sleep(1e6)
async def swallows_its_cancellation(given):
    while True:
        try: await asyncio.sleep(1e6)
        except asyncio.CancelledError: pass
def locks(given):
    lock = threading.Lock(); lock.acquire(); lock.acquire()
def waits_for_a_child(given): subprocess.run(["sleep", "60"])
def waits_for_a_socket(given):
    one, other = socket.socketpair(); one.recv(1)
def matches(given): re.match("(a+)+$", "a" * 60 + "b")
def holds_the_interpreter(given): return float(sum(range(10**13)))
def waits_for_a_pool(given): return ThreadPoolExecutor(1).submit(time.sleep, 60).result()
def leaves_a_thread(given):
    threading.Thread(target=time.sleep, args=(60,)).start(); raise ValueError("x")
def leaves_a_thread_and_returns(given):
    threading.Thread(target=time.sleep, args=(90,)).start(); return 1.0
def leaves_a_short_thread(given):
    threading.Timer(2.0, lambda: sys.stderr.write("the thread is done. ")).start(); return 1.0
def leaves_a_pool(given):
    leaves_a_pool.pool = ThreadPoolExecutor(1); leaves_a_pool.pool.submit(time.sleep, 60); raise ValueError("x")
def exits(given): sys.exit(0)
def interrupts(given): raise KeyboardInterrupt
def generator_exits(given): raise GeneratorExit
def is_cancelled(given): raise asyncio.CancelledError
async def exits_later(given): sys.exit(0)
async def is_cancelled_later(given): raise asyncio.CancelledError
def ends_the_process(given): os._exit(0)
def aborts(given): os.abort()
def is_killed(given): os.kill(os.getpid(), 9)
def columns_sleep(completions, **columns): time.sleep(1e6)
def a_generator_sleeps(completions, **columns):
    for _ in completions: yield time.sleep(1e6)
def half_a_second(given): time.sleep(0.5); return 1.0
def of_signals(given):
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError()))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try: time.sleep(1e6)
    except TimeoutError: return 1.0
def forks(given):
    child = os.fork()
    if child == 0: return 0.0
    os.waitpid(child, 0); return 1.0
def forks_and_raises(given):
    child = os.fork()
    if child == 0: raise ValueError("in the child")
    assert os.waitpid(child, 0)[1] == 256; return 1.0
def forks_and_exits(given):
    child = os.fork()
    if child == 0: sys.exit()
    assert os.waitpid(child, 0)[1] == 0; return 1.0
def forks_and_ends(given):
    if os.fork() == 0: os.close(1); os.close(2); time.sleep(20); os._exit(0)
    os._exit(0)
"""

CALL = """
import sys
from vlm_r1.errors import RewardError
from vlm_r1.rewards.call import call_reward, resolve_reward
from vlm_r1.rewards.base import RewardInput
from vlm_r1.rewards.guard import TimeLimit, note_status
from vlm_r1.parsing.tags import split_tags
from vlm_r1.types import Record, Thinking
record = Record("1", "vqa", "?", (), "x", source="f.jsonl:1")
given = lambda: RewardInput("a", split_tags("a"), Thinking.FREE, None, "x", (), record)
name = "bad:" + sys.argv[1]
try:
    limit = TimeLimit(float(sys.argv[2]))
    sys.stdout.write(str(call_reward(name, resolve_reward(name, {}), [given(), given()], None, limit)))
except RewardError as error:
    sys.exit(f"RewardError: {error}")
note_status(int(sys.argv[3]))
sys.exit(int(sys.argv[3]))
"""


@pytest.fixture
def call(tmp_path):
    """`call("sleeps")`: status, standard output and error of a program that calls a function for two completions."""
    (tmp_path / "bad.py").write_text(BAD, encoding="utf-8")
    paths = os.pathsep.join([str(Path(vlm_r1.__file__).parents[1]), str(tmp_path)])

    def run(name: str, limit_s: float = 1.0, status: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": paths}
        command = [sys.executable, "-c", CALL, name, str(limit_s), str(status)]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=50 + GRACE_S
        )

    return run


@pytest.mark.parametrize(
    "name",
    [
        "sleeps",
        "loops",
        "swallows",
        "awaits",
        "blocks_the_event_loop",
        "swallows_its_cancellation",
        "locks",
        "waits_for_a_child",
        "waits_for_a_socket",
        "matches",
        "waits_for_a_pool",
        "columns_sleep",
        "a_generator_sleeps",
    ],
)
def test_a_function_that_does_not_return_is_interrupted_and_its_line_named(call, name):
    done = call(name)
    assert done.returncode == 1, done
    [line] = [line for line in done.stderr.splitlines() if line.startswith("RewardError")]
    assert f'reward "bad:{name}" gave no answer within 1 s (bad.py:' in line
    assert "f.jsonl:1" in line
    first = BAD.splitlines().index(next(row for row in BAD.splitlines() if f"def {name}(" in row)) + 1
    place = int(line.partition("(bad.py:")[2].partition(")")[0])
    assert first <= place <= first + 3


@pytest.mark.parametrize("name", ["swallows_all", "holds_the_interpreter"])
def test_a_function_that_cannot_be_interrupted_is_killed(call, name):
    done = call(name)
    assert done.returncode == -signal.SIGKILL
    assert f'f.jsonl:1: reward "bad:{name}" gave no answer within 1 s and cannot be interrupted' in done.stderr


@pytest.mark.parametrize("status", [0, 3])
def test_threads_that_are_left_behind_do_not_keep_a_program_that_has_done_its_work(call, status):
    """The status stays that of the program. The control is that a thread which ends in time is waited for."""
    done = call("leaves_a_thread_and_returns", 5.0, status)
    assert (done.returncode, done.stdout) == (status, "[1.0, 1.0]")
    assert "left threads behind" in done.stderr
    done = call("leaves_a_short_thread", 5.0, status)
    assert (done.returncode, done.stdout) == (status, "[1.0, 1.0]")
    assert done.stderr.count("the thread is done") == 2


@pytest.mark.parametrize("name", ["leaves_a_thread", "leaves_a_pool"])
def test_threads_that_are_left_behind_do_not_keep_a_failed_program(call, name):
    done = call(name)
    assert done.returncode == 1
    assert f'f.jsonl:1: reward "bad:{name}" raised ValueError: x (bad.py:' in done.stderr
    assert "left threads behind" in done.stderr


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("exits", "SystemExit: 0"),
        ("interrupts", "KeyboardInterrupt: "),
        ("generator_exits", "GeneratorExit: "),
        ("is_cancelled", "CancelledError: "),
        ("exits_later", "SystemExit: 0"),
        ("is_cancelled_later", "CancelledError: "),
    ],
)
def test_leaving_the_process_is_a_failure_like_others(call, name, error):
    done = call(name)
    assert done.returncode == 1
    assert done.stderr.startswith("RewardError: f.jsonl:1")
    assert f'reward "bad:{name}" raised {error} (bad.py:' in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("ends_the_process", 0),
        ("aborts", -signal.SIGABRT),
        ("is_killed", -signal.SIGKILL),
        ("forks_and_ends", 0),
    ],
)
def test_a_process_that_ends_inside_a_function_does_not_end_without_a_word(call, name, status):
    done = call(name)
    assert done.returncode == status
    assert f'RewardError: f.jsonl:1: reward "bad:{name}" ended the process' in done.stderr


@pytest.mark.parametrize(
    ("name", "limit_s", "expected"),
    [
        pytest.param("half_a_second", 5.0, "[1.0, 1.0]", id="in time"),
        pytest.param("of_signals", 5.0, "[1.0, 1.0]", id="a limit of its own, by signals"),
        pytest.param("forks", 5.0, "[1.0, 1.0]", id="children that return are ended"),
        pytest.param("forks_and_raises", 5.0, "[1.0, 1.0]", id="children that raise are ended"),
        pytest.param("forks_and_exits", 5.0, "[1.0, 1.0]", id="children that leave by sys.exit are ended"),
    ],
)
def test_what_keeps_to_its_time_is_left_alone(call, name, limit_s, expected):
    done = call(name, limit_s)
    assert (done.returncode, done.stdout) == (0, expected)
    assert "RewardError" not in done.stderr


def test_the_limit_is_for_all_completions_of_a_batch(call):
    done = call("half_a_second", 0.8)  # the second completion has 0.3 s left
    assert 'f.jsonl:1: reward "bad:half_a_second" gave no answer within 0.8 s' in done.stderr


def test_ctrl_c_is_no_failure_of_the_function():
    def slow(completions, **columns):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(30)

    with pytest.raises(KeyboardInterrupt):
        call_reward("slow", from_outside(slow), [given()])


def test_a_call_in_another_thread_is_watched_too():
    with ThreadPoolExecutor(1) as executor:
        rewards = executor.submit(call_reward, "one", from_outside(lambda given: 1.0), [given()])
        assert rewards.result() == [1.0]


def test_a_module_or_class_that_exits_is_a_wrong_name(tmp_path, monkeypatch):
    (tmp_path / "exits_at_import.py").write_text("import sys\nsys.exit(0)", encoding="utf-8")
    (tmp_path / "exits_when_made.py").write_text(
        "class Made:\n    def __init__(self): raise SystemExit(0)\n    def __call__(self, given): return 1.0",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("exits_at_import:f", "exits_when_made:Made"):
        with pytest.raises(ConfigError, match="SystemExit"):
            resolve_reward(name, {})


def test_what_is_awaited_comes_in_its_order():
    async def later(value, seconds):
        await asyncio.sleep(seconds)
        return value

    assert await_all([later("a", 0.05), later("b", 0.0)]) == ["a", "b"]
