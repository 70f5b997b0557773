"""All attacks, by name: each suite is a list of trials, of which a test takes some and `python -m benchmarks.survival`
all.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from benchmarks.survival.damage import DAMAGES, damage, files_of, stopped_run
from benchmarks.survival.failures import FAILURES, can_mount, failure_at_call, file_size_limited, small_disk
from benchmarks.survival.kills import (
    kill_at_call,
    kill_at_moment,
    kill_at_random,
    kill_in_resumption,
    moments_of,
    points_of,
)
from benchmarks.survival.signals import signal_at_moment, two_at_once
from benchmarks.survival.subjects import SUBJECTS, Subject
from benchmarks.survival.trials import Ground, Result

Trial = Callable[[], Result]
BY_NAME = {subject.name: subject for subject in SUBJECTS}
_N_RANDOM = 50
_WHILE_FINISHING = "evaluation after"


def moments(ground: Ground) -> list[Trial]:
    """`kill -9` at every named moment of every kind of run; of two processes the first, the second or both."""
    trials: list[Trial] = []
    for subject in SUBJECTS:
        for index, name in enumerate(moments_of(subject)):
            everyone = list(range(subject.processes))
            ranks = [everyone, [0], [1]][index % 3] if subject.processes == 2 else everyone
            both_reach_it = name in EVERY_RANK
            trials.append(partial(kill_at_moment, ground, subject, name, ranks if both_reach_it else [0]))
    return trials


EVERY_RANK = ("start", "sampling", "reward", "backward", "optimizer", "save begins", "final model")
"""Moments of all processes; the others are those of the first, which writes."""


def random_kills(ground: Ground) -> list[Trial]:
    """`kill -9` at fifty random times, and again at a random time of the resumption."""
    dice = random.Random(0)
    return [
        partial(kill_at_random, ground, SUBJECTS[index % len(SUBJECTS)], dice.randrange(1 << 30))
        for index in range(_N_RANDOM)
    ]


def calls(ground: Ground) -> list[Trial]:
    """`kill -9` before each system call of a run that writes to its folder."""
    return [
        partial(kill_at_call, ground, BY_NAME[name], n)
        for name in ("grpo", "sft-lora")
        for n in points_of(ground.whole(BY_NAME[name]).ended.calls)
    ]


def calls_of_resumptions(ground: Ground) -> list[Trial]:
    """`kill -9` before each such call of a resumption, in the middle of a run and after its last checkpoint."""
    trials: list[Trial] = []
    for name in ("grpo", "sft-lora"):
        for moment in ("metrics line written", _WHILE_FINISHING):
            stopped, own = stopped_run(ground, BY_NAME[name], moment)
            attack = partial(kill_in_resumption, ground, BY_NAME[name], stopped, moment)
            trials += [partial(attack, call=n, shown=own[n - 1]) for n in points_of(own)]
    return trials


def failing_disk(ground: Ground, failure: str) -> list[Trial]:
    """One of `FAILURES` from each system call on."""
    grpo = BY_NAME["grpo"]
    points = points_of(ground.whole(grpo).ended.calls)
    return [partial(failure_at_call, ground, grpo, failure, n) for n in points]


def damaged_files(ground: Ground) -> list[Trial]:
    """Every file of a stopped run × every kind of damage, then --resume."""
    trials: list[Trial] = []
    for name in ("grpo", "sft-lora"):
        stopped, _ = stopped_run(ground, BY_NAME[name], "metrics line written")
        attacks = [(file, kind) for kind in DAMAGES for file in files_of(stopped)]
        trials += [partial(damage, ground, BY_NAME[name], stopped, file, kind) for file, kind in attacks]
    return trials


def signals(ground: Ground) -> list[Trial]:
    """SIGTERM, SIGINT, SIGUSR1 and SIGHUP at named moments; then --resume."""
    kinds = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
    subjects: Sequence[Subject] = (BY_NAME["grpo"], BY_NAME["sft-lora"], BY_NAME["grpo-2"])
    trials: list[Trial] = []
    for subject in subjects:
        names = [name for name in moments_of(subject) if subject.processes == 1 or name in EVERY_RANK]
        trials += [
            partial(signal_at_moment, ground, subject, name, kinds[index % len(kinds)])
            for index, name in enumerate(names)
        ]
    return trials


def limits(ground: Ground) -> list[Trial]:
    """Files that may not be large, and, where this process may mount one, disks that are small."""
    trials: list[Trial] = []
    for name in ("grpo", "sft-lora"):
        folder = ground.whole(BY_NAME[name]).folder
        largest = max(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        used = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        trials += [
            partial(file_size_limited, ground, BY_NAME[name], size) for size in (16_000, largest // 2, largest - 1)
        ]
        if can_mount():
            trials += [partial(small_disk, ground, BY_NAME[name], int(share * used)) for share in (0.1, 0.3, 0.5, 0.7)]
    return trials


def twice(ground: Ground) -> list[Trial]:
    """The same command twice at once, in a new folder and in that of a stopped run."""
    trials: list[Trial] = []
    for name in ("grpo", "sft-lora"):
        stopped, _ = stopped_run(ground, BY_NAME[name], "metrics line written")
        trials += [partial(two_at_once, ground, BY_NAME[name], folder) for folder in (None, stopped)]
    return trials


SUITES: Mapping[str, Callable[[Ground], list[Trial]]] = {
    "moments": moments,
    "random": random_kills,
    "calls": calls,
    "resumptions": calls_of_resumptions,
    **{failure: partial(failing_disk, failure=failure) for failure in FAILURES},
    "damage": damaged_files,
    "signals": signals,
    "limits": limits,
    "twice": twice,
}
