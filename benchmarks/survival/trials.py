"""A trial: a run is attacked, then resumed until it ends, and compared with one that nobody disturbed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.survival.compare import contents, differences
from benchmarks.survival.nursery import Ended, Nursery, Plan
from benchmarks.survival.subjects import Subject, write_recipe

USER_ERROR = 2
_ATTEMPTS = 3


@dataclass(frozen=True)
class Result:
    """What became of a trial.

    Attributes:
        subject: kind of run.
        attack: what was done to it.
        outcome: one of `GOOD`, or what was wrong.
        note: differences, or the end of the output.
    """

    subject: str
    attack: str
    outcome: str
    note: str = ""


EQUAL, OLDER, ERROR = "equal", "equal, older checkpoint", "clear error"
TOLD = "equal, damage named"
"""Everything is equal but the damaged file, which training does not need, and which the output names."""
GOOD = (EQUAL, OLDER, TOLD, ERROR)


@dataclass
class Ground:
    """A folder with checkpoint, data and recipes, and the uninterrupted runs.

    Attributes:
        folder: everything lies in it; without links, since system calls name real paths.
    """

    nursery: Nursery
    folder: Path
    wholes: dict[str, Whole] = field(default_factory=dict)

    def whole(self, subject: Subject) -> Whole:
        """Return the uninterrupted run of a subject; it is run once."""
        if subject.name not in self.wholes:
            run = Run(self, subject, f"whole-{subject.name}")
            ended = run.start(list_calls=True)
            assert ended.statuses == [0] * subject.processes, ended.output
            self.wholes[subject.name] = Whole(run.folder, ended)
        return self.wholes[subject.name]


@dataclass
class Whole:
    """An uninterrupted run: its folder, and how it ended, with its system calls."""

    folder: Path
    ended: Ended

    @cached_property
    def contents(self) -> Mapping[str, Any]:
        """See `compare.contents`."""
        return contents(self.folder)


class Run:
    """A run in a folder of its own, below the ground's; what was there is removed."""

    def __init__(self, ground: Ground, subject: Subject, name: str, template: Path | None = None):
        self.ground, self.subject = ground, subject
        self.folder = ground.folder / "runs" / name
        self.recipe = write_recipe(ground.folder, subject)
        shutil.rmtree(self.folder, ignore_errors=True)
        if template is not None:
            shutil.copytree(template, self.folder)

    def start(self, **fault: Any) -> Ended:
        """Start it as its user would, with --resume if there is something to resume; returns when it has ended."""
        resume = ["--resume"] if (self.folder / "config.yaml").exists() else []
        arguments = [self.subject.command, str(self.recipe), f"--output_dir={self.folder}", *resume]
        log = self.folder.with_suffix(".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        plan = Plan(arguments, str(self.folder), str(log), processes=self.subject.processes)
        return self.ground.nursery.run(replace(plan, **fault))

    def finish(self) -> Ended:
        """Start it until it ends well, a few times at most; returns the last end."""
        ended = self.start()
        for _ in range(_ATTEMPTS - 1):
            if not any(ended.statuses):
                break
            ended = self.start()
        return ended

    def compare(self) -> list[str]:
        """Return how it differs from the uninterrupted run."""
        return differences(self.ground.whole(self.subject).contents, contents(self.folder))

    def remove(self) -> None:
        """Delete what is in its folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def tail(text: str) -> str:
    """The last lines."""
    return "\n".join(text.strip().splitlines()[-12:])


def forbidden(ended: Ended) -> str | None:
    """Return what no command may do, whatever happens to it: hang, or show a traceback."""
    if ended.timed_out:
        return "hangs"
    return "traceback" if "Traceback (most recent call last)" in ended.output else None
