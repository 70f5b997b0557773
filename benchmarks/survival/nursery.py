"""Runs `vlm-r1` commands in forked children, which die as a plan says.

A fresh process imports torch and transformers for many seconds; a child of a process that has imported them starts at
once. Otherwise it is the command: its own process, its own exit status, its output in a file, and a real `kill -9`.

The nursery is a process of its own with one thread: `Nursery` starts it, and sends it a plan a line.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.survival import syscalls

ROOT = Path(__file__).resolve().parents[2]
_LIBRARIES = (
    "vlm_r1.cli.main",
    "vlm_r1.cli.train",
    "vlm_r1.cli.sft",
    "vlm_r1.cli.console",
    "vlm_r1.grpo.trainer",
    "vlm_r1.supervised.trainer",
    "vlm_r1.report.build",
    "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
    "transformers.models.qwen2_5_vl.processing_qwen2_5_vl",
    "transformers.generation.utils",
    "peft.tuners.lora.model",
    "torch._dynamo",
    "torch.distributed.tensor",
    "accelerate.checkpointing",
    "pyarrow.parquet",
    "pyarrow.fs",
    "rich.progress",
    "scipy.optimize",
)
_WAIT_S = 0.2
_GRACE_S = 15.0
"""After one process has failed, the others have this long to notice; then they are killed, as a launcher would."""


@dataclass(frozen=True)
class Plan:
    """One command and how it dies.

    Attributes:
        arguments: of `vlm-r1`.
        folder: the run folder, absolute and without links.
        log: file for the output of all processes.
        processes: how many run the command together.
        ranks: which of them get the signal.
        signal: what they get.
        call: before this system call of rank 0 that would change the folder, counted from 1; 0: never.
        error: instead of the signal, that call and all later ones that a full disk refuses fail with this number;
            if `all_calls`, all that change the folder do.
        moment: at the `nth` time that a function is entered, or left if `leaving`: the end of its file's path and its
            qualified name, e.g. "training/learner.py:Learner.backward".
        after_s: this many seconds after the start; 0: never.
        timeout_s: limit for the whole; processes that still live are killed then.
        list_calls: tell of the system calls of rank 0 that change the folder.
        file_size_bytes: limit of the size of a file; 0: none.
        alone: the processes do not know of one another, as two commands that were started in the same folder.
    """

    arguments: list[str]
    folder: str
    log: str
    processes: int = 1
    ranks: list[int] = field(default_factory=lambda: [0])
    signal: int = signal.SIGKILL
    call: int = 0
    error: int = 0
    all_calls: bool = False
    moment: str = ""
    nth: int = 1
    leaving: bool = False
    after_s: float = 0.0
    timeout_s: float = 120.0
    list_calls: bool = False
    file_size_bytes: int = 0
    alone: bool = False


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        statuses: exit status of each process; -9 after a kill.
        seconds: from the start to the last end.
        timed_out: whether processes had to be killed because of the time limit; not those whose partner had failed.
        calls: what changed the folder, in order, if it was asked for.
        output: what all processes printed.
    """

    statuses: list[int]
    seconds: float
    timed_out: bool
    calls: list[str]
    output: str = ""


class Nursery:
    """`with Nursery() as nursery: nursery.run(Plan(…))`."""

    def __enter__(self) -> Nursery:
        path = os.pathsep.join(str(ROOT / name) for name in ("src", "tests", "."))
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        environment = {**os.environ, **threads, "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false"}
        environment |= {
            "HF_HUB_OFFLINE": "1",
            "JE_ARROW_MALLOC_CONF": "background_thread:false",
        }  # no thread of pyarrow
        command = [sys.executable, "-m", "benchmarks.survival.nursery"]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def run(self, plan: Plan) -> Ended:
        """Run a command to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(plan)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the nursery ended with status {self._process.wait()}")
        return Ended(**json.loads(line), output=Path(plan.log).read_text(encoding="utf-8", errors="replace"))


def main() -> None:
    """Serve plans until the input ends."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for library in _LIBRARIES:
        import_module(library)
    for line in sys.stdin:
        plan = Plan(**json.loads(line))
        threads = len(os.listdir("/proc/self/task")) if sys.platform == "linux" else 1
        assert threads == 1, f"{threads} threads: a fork would copy one of them"
        out.write(json.dumps(asdict(_supervise(plan)), default=str).removesuffix(', "output": ""}') + "}\n")
        out.flush()


def _supervise(plan: Plan) -> Ended:
    start, failed = time.monotonic(), None
    port = str(_free_port())
    Path(plan.log).write_bytes(b"")
    children = [_Child(plan, rank, port) for rank in range(plan.processes)]
    watcher = _Watcher(plan, children)
    signalled = False
    while any(child.status is None for child in children):
        watcher.serve(_WAIT_S if not plan.after_s else 0.01)
        passed = time.monotonic() - start
        if plan.after_s and passed >= plan.after_s and not signalled:
            signalled = True
            watcher.signal()
        if failed is None and not plan.alone and any(child.status for child in children):
            failed = passed
        if passed > plan.timeout_s or (failed is not None and passed > failed + _GRACE_S):
            break
    timed_out = failed is None and any(child.status is None for child in children)
    for child in children:
        child.end()
    statuses = [child.status if child.status is not None else -signal.SIGKILL for child in children]
    return Ended(statuses, time.monotonic() - start, timed_out, watcher.calls)


class _Child:
    """A process that runs the command."""

    def __init__(self, plan: Plan, rank: int, port: str):
        ours, theirs = socket.socketpair()
        self.status: int | None = None
        self.listener: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            _live(plan, rank, port, theirs)
        theirs.close()
        with ours:
            descriptors = socket.recv_fds(ours, 1, 1)[1]
        self.listener = descriptors[0] if descriptors else None
        self.exit = os.pidfd_open(self.pid)

    def end(self) -> None:
        """Kill what is left of it and of those it started."""
        for kill in (os.killpg, os.kill):
            try:
                kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self.status is None:
            os.waitpid(self.pid, 0)
        for descriptor in (self.listener, self.exit):
            if descriptor is not None:
                os.close(descriptor)


class _Watcher:
    """Waits for requests and ends of the children."""

    def __init__(self, plan: Plan, children: list[_Child]):
        self.plan, self.children, self.calls, self.n = plan, children, list[str](), 0
        self.poll = select.poll()
        self.actions: dict[int, Callable[[], None]] = {}
        for child in children:
            self._watch(child.exit, lambda child=child: self._ended(child))
            if child.listener is not None:
                self._watch(child.listener, lambda listener=child.listener: self._asked(listener))

    def _watch(self, descriptor: int, action: Callable[[], None]) -> None:
        self.poll.register(descriptor, select.POLLIN)
        self.actions[descriptor] = action

    def serve(self, wait_s: float) -> None:
        """Handle what has happened, or wait for the next thing."""
        for descriptor, event in self.poll.poll(wait_s * 1000):
            if event & select.POLLIN:
                self.actions[descriptor]()
            else:  # a listener whose process has died
                self.poll.unregister(descriptor)

    def signal(self) -> None:
        """Send the plan's signal to its ranks."""
        for rank in self.plan.ranks:
            if self.children[rank].status is None:
                os.kill(self.children[rank].pid, self.plan.signal)

    def _ended(self, child: _Child) -> None:
        self.poll.unregister(child.exit)
        child.status = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])

    def _asked(self, listener: int) -> None:
        plan, request = self.plan, syscalls.receive(listener, self.plan.folder)
        if request is None:
            return
        error = 0
        if request.call is not None:
            self.n += 1
            if plan.list_calls:
                self.calls.append(str(request.call))
            if plan.error and plan.call and self.n >= plan.call:
                error = plan.error if plan.all_calls or request.call.name in syscalls.GROWING else 0
            elif self.n == plan.call:
                self.signal()
        syscalls.answer(listener, request, error)


def _live(plan: Plan, rank: int, port: str, socket_to_supervisor: socket.socket) -> None:
    """Be the command; never returns."""
    status = 1
    try:
        status = _command(plan, rank, port, socket_to_supervisor)
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _command(plan: Plan, rank: int, port: str, socket_to_supervisor: socket.socket) -> int:
    os.setsid()
    log = os.open(plan.log, os.O_WRONLY | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if plan.processes > 1 and not plan.alone:
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": plan.processes, "LOCAL_WORLD_SIZE": plan.processes}
        os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **{k: str(v) for k, v in ranks.items()}})
    if plan.file_size_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (plan.file_size_bytes, plan.file_size_bytes))
    if rank == 0 and (plan.call or plan.list_calls):
        socket.send_fds(socket_to_supervisor, [b"1"], [syscalls.ask_before_calls()])
    socket_to_supervisor.close()
    if plan.moment and rank in plan.ranks:
        sys.setprofile(_at_moment(plan))
    from vlm_r1.cli.main import main as command

    return command(plan.arguments)


def _at_moment(plan: Plan) -> Callable[[FrameType, str, Any], None]:
    """Return a profiler that sends this process the signal at the plan's moment."""
    file, function = plan.moment.split(":")
    wanted, left = "return" if plan.leaving else "call", plan.nth

    def profile(frame: FrameType, event: str, _: Any) -> None:
        nonlocal left
        code = frame.f_code
        if event == wanted and code.co_qualname == function and code.co_filename.endswith(file):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), plan.signal)

    return profile


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    main()
