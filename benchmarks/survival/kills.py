"""`kill -9` at named moments, at random times and before every system call that writes to the run folder."""

from __future__ import annotations

import random
import signal
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.survival.subjects import Subject
from benchmarks.survival.trials import EQUAL, Ground, Result, Run, forbidden, tail

MOMENTS: Mapping[str, tuple[str, int, bool]] = {  # file:function, the time that counts, whether it is left
    "start": ("training/run.py:open_training", 1, False),
    "run folder opened": ("runtime/run_folder.py:begin_run", 1, True),
    "evaluation before": ("evaluation/runner.py:write_evaluation", 1, False),
    "sampling": ("sampling/hf.py:HFSampler.sample", 4, False),
    "reward": ("tasks/judge.py:judge", 4, False),
    "rollouts written": ("runtime/rollout_log.py:write_rollouts", 3, True),
    "backward": ("training/learner.py:Learner.backward", 6, True),
    "optimizer": ("training/learner.py:Learner.update", 4, True),
    "evaluation in training": ("evaluation/runner.py:write_evaluation", 2, False),
    "metrics line": ("runtime/metrics_log.py:append_metrics", 4, False),
    "metrics line written": ("runtime/metrics_log.py:append_metrics", 5, True),
    "save begins": ("training/learner.py:Learner.save_checkpoint", 2, False),
    "save commits": ("runtime/checkpoint.py:_replace", 2, False),
    "save committed": ("runtime/checkpoint.py:_replace", 2, True),
    "old checkpoints pruned": ("runtime/checkpoint.py:prune_checkpoints", 3, False),
    "final model": ("training/learner.py:Learner.save_model", 1, False),
    "final model written": ("training/learner.py:Learner.save_model", 1, True),
    "evaluation after": ("evaluation/runner.py:write_evaluation", 3, False),
    "summary": ("training/held_out.py:write_summary", 1, True),
    "report": ("report/build.py:build_report", 1, False),
    "report written": ("report/build.py:build_report", 1, True),
}
KILLS = "kills: "
"""Beginning of the note of a trial that ended well; its number follows. (A random time may come after the end.)"""
ONLY_GRPO = ("sampling", "reward", "rollouts written")


def moments_of(subject: Subject) -> list[str]:
    """Names of the moments that a run of this kind has."""
    return [name for name in MOMENTS if subject.command == "train" or name not in ONLY_GRPO]


def at_moment(name: str) -> dict[str, Any]:
    """Return the plan's fields for a kill at a named moment."""
    moment, nth, leaving = MOMENTS[name]
    return {"moment": moment, "nth": nth, "leaving": leaving}


def kill_at_moment(ground: Ground, subject: Subject, name: str, ranks: Sequence[int] = (0,)) -> Result:
    """Kill some of the processes at a named moment, and resume."""
    return kill(ground, subject, f"kill of rank {_listed(ranks)} at: {name}", ranks=ranks, **at_moment(name))


def kill_at_random(ground: Ground, subject: Subject, seed: int) -> Result:
    """Kill a run at a random time of its life, and again at a random time of its resumption, if it still lives then."""
    whole, dice = ground.whole(subject), random.Random(seed)
    after_s = dice.uniform(0.02, whole.ended.seconds)
    ranks = dice.choice([[rank] for rank in range(subject.processes)] + [list(range(subject.processes))])
    again = {"after_s": dice.uniform(0.02, whole.ended.seconds), "ranks": ranks}
    attack = f"kill of rank {_listed(ranks)} after {after_s:.2f} s, then after {again['after_s']:.2f} s"
    return kill(ground, subject, attack, again, after_s=after_s, ranks=ranks, sure=False)


def kill_at_call(ground: Ground, subject: Subject, n: int) -> Result:
    """Kill before one system call of `points_of`."""
    return kill(ground, subject, f"kill before call {n}: {ground.whole(subject).ended.calls[n - 1]}", call=n)


def kill_in_resumption(
    ground: Ground, subject: Subject, stopped: Path, moment: str, *, call: int, shown: str
) -> Result:
    """Kill the resumption of a stopped run before one system call.

    Args:
        stopped: folder of a run that was killed at the named moment.
        shown: the call.
    """
    attack = f"resumed after a kill at: {moment}; kill before call {call}: {shown}"
    return kill(ground, subject, attack, template=stopped, call=call)


def points_of(calls: Sequence[str]) -> list[int]:
    """Numbers of all calls, counted from 1; of a row of equal ones only the first, the middle and the last.

    >>> points_of(["open a", "write a", "write a", "write a", "write a", "write a", "rename a"])
    [1, 2, 4, 6, 7]
    """
    points: list[int] = []
    for _, row in groupby(enumerate(calls, start=1), key=lambda numbered: numbered[1]):
        own = [number for number, _ in row]
        points += sorted({own[0], own[len(own) // 2], own[-1]})
    return points


def kill(
    ground: Ground,
    subject: Subject,
    attack: str,
    again: Mapping[str, Any] | None = None,
    *,
    template: Path | None = None,
    sure: bool = True,
    **fault: Any,
) -> Result:
    """Start a run with a fault that kills it, resume it until it ends, and compare.

    Args:
        again: a fault of the first resumption.
        template: folder of a stopped run, which is started instead of a new one.
        sure: the fault must kill; else the run may have ended before.
    """
    ranks = list(fault.pop("ranks", (0,)))
    run = Run(ground, subject, "killed", template)
    ended = run.start(ranks=ranks, **fault)
    killed = [rank for rank, status in enumerate(ended.statuses) if status == -signal.SIGKILL]
    if ended.timed_out:
        return Result(subject.name, attack, "hangs", tail(ended.output))
    if sure and not set(ranks) <= set(killed):
        return Result(subject.name, attack, f"was not killed: {ended.statuses}", tail(ended.output))
    n_kills = bool(killed)
    if again is not None:
        n_kills += -signal.SIGKILL in run.start(**again).statuses
    last = run.finish()
    if wrong := forbidden(last) or (f"ends with {last.statuses}" if any(last.statuses) else None):
        return Result(subject.name, attack, f"resumed: {wrong}", tail(last.output))
    if different := run.compare():
        return Result(subject.name, attack, "differs", "\n".join(different))
    run.remove()
    return Result(subject.name, attack, EQUAL, f"{KILLS}{n_kills}")


def _listed(ranks: Sequence[int]) -> str:
    return " and ".join(map(str, ranks))
