"""What people and schedulers do to runs: signals, after which a run saves and ends, and two runs in one folder."""

from __future__ import annotations

import signal
from pathlib import Path

from benchmarks.survival.compare import but_for_checkpoints
from benchmarks.survival.kills import at_moment
from benchmarks.survival.subjects import LAST, Subject
from benchmarks.survival.trials import EQUAL, USER_ERROR, Ground, Result, Run, forbidden, tail


def signal_at_moment(ground: Ground, subject: Subject, name: str, number: signal.Signals) -> Result:
    """Send all processes a signal at a named moment; then resume and compare.

    The exit status is 128 + the number, or 0 if the run had nothing more to train and finished. Of several processes,
    those that lose the others first may die by the signal.
    """
    attack = f"{number.name} at: {name}"
    run = Run(ground, subject, "signalled")
    ended = run.start(ranks=list(range(subject.processes)), signal=int(number), **at_moment(name))
    if wrong := forbidden(ended):
        return Result(subject.name, attack, wrong, tail(ended.output))
    allowed = {128 + number, 0} if subject.processes == 1 else {128 + number, 0, -number}
    if not set(ended.statuses) <= allowed:
        return Result(subject.name, attack, f"ends with {ended.statuses}", tail(ended.output))
    last = run.finish()
    if wrong := forbidden(last) or (f"ends with {last.statuses}" if any(last.statuses) else None):
        return Result(subject.name, attack, f"resumed: {wrong}", tail(last.output))
    if different := but_for_checkpoints(run.compare(), LAST):
        return Result(subject.name, attack, "differs", "\n".join(different))
    run.remove()
    return Result(subject.name, attack, EQUAL, f"statuses {ended.statuses}")


def two_at_once(ground: Ground, subject: Subject, stopped: Path | None) -> Result:
    """Start the same command twice at once: one of them does the work, the other says that the folder is in use.

    Args:
        stopped: folder of a stopped run, which both resume; None: both start a new one.
    """
    attack = "two at once" if stopped is None else "two resumptions at once"
    run = Run(ground, subject, "twice", template=stopped)
    ended = run.start(processes=2, alone=True)
    if wrong := forbidden(ended):
        return Result(subject.name, attack, wrong, tail(ended.output))
    if sorted(ended.statuses) != [0, USER_ERROR]:
        return Result(subject.name, attack, f"both work: {ended.statuses}", tail(ended.output))
    if different := run.compare():
        return Result(subject.name, attack, "differs", "\n".join(different))
    run.remove()
    return Result(subject.name, attack, EQUAL)
