"""Signals by which schedulers and people stop a run: it ends its step, saves, and says so by its exit status."""

from __future__ import annotations

import signal

from benchmarks.survival.kills import at_moment
from benchmarks.survival.subjects import Subject
from benchmarks.survival.trials import EQUAL, Ground, Result, Run, forbidden, tail


def signal_at_moment(ground: Ground, subject: Subject, name: str, number: signal.Signals) -> Result:
    """Send all processes a signal at a named moment; then resume and compare.

    The exit status is 128 + the number, or 0 if the run had nothing more to train and finished.
    """
    attack = f"{number.name} at: {name}"
    run = Run(ground, subject, "signalled")
    ended = run.start(ranks=list(range(subject.processes)), signal=int(number), **at_moment(name))
    if wrong := forbidden(ended):
        return Result(subject.name, attack, wrong, tail(ended.output))
    if not set(ended.statuses) <= {128 + number, 0}:
        return Result(subject.name, attack, f"ends with {ended.statuses}", tail(ended.output))
    last = run.finish()
    if wrong := forbidden(last) or (f"ends with {last.statuses}" if any(last.statuses) else None):
        return Result(subject.name, attack, f"resumed: {wrong}", tail(last.output))
    if different := run.compare():
        return Result(subject.name, attack, "differs", "\n".join(different))
    run.remove()
    return Result(subject.name, attack, EQUAL, f"statuses {ended.statuses}")
