"""Examines a run while it trains: each finding is said once, when it arises (docs/doctor.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlm_r1.doctor.answers import Answers, count, of_groups
from vlm_r1.doctor.base import Finding, Seen
from vlm_r1.doctor.examine import examine
from vlm_r1.doctor.read import read_evaluations, read_seen, windows
from vlm_r1.runtime.metrics_log import MetricsRow
from vlm_r1.runtime.progress import Display
from vlm_r1.types import Group


class Findings:
    """What has been seen of a run, and what has been said about it. Only the first process has one.

    It starts with what the run folder holds of earlier steps, so a resumed run does not repeat what was said before.
    """

    def __init__(self, folder: Path, display: Display, step: int):
        """Read the run folder.

        Args:
            step: finished steps.
        """
        self.folder, self.display = folder, display
        self.seen: Seen = read_seen(folder, until=step)[0]
        self.told = {finding.key for finding in examine(self.seen)} if step else set[tuple[str, str]]()

    def after_step(self, row: Mapping[str, Any], groups: Sequence[Group]) -> None:
        """Take in a step and say what is new.

        Args:
            row: its line of metrics.jsonl.
            groups: its groups, of all processes.
        """
        line: MetricsRow = dict(row)
        answers: dict[int, Answers] = dict(self.seen.answers)
        if groups:
            answers[int(line["step"])] = count(of_groups(groups))
            answers = {step: answers[step] for step in windows(sorted(answers))}
        self.seen = replace(self.seen, rows=[*self.seen.rows, line], answers=answers)
        evaluated = any(name.startswith("eval/") for name in line)
        self._examine(evaluated)

    def at_the_end(self) -> list[Finding]:
        """Take in the evaluations after training and say what is new; returns all findings."""
        return self._examine(evaluated=True)

    def _examine(self, evaluated: bool) -> list[Finding]:
        if evaluated:
            self.seen = replace(self.seen, held_out=read_evaluations(self.folder / "eval", self.seen.step))
        found = examine(self.seen)
        for finding in found:
            if finding.key not in self.told:
                self.display.say(said(finding), "yellow")
                self.told.add(finding.key)
        return found


def said(finding: Finding) -> str:
    """Return a finding as the display shows it."""
    about = f" ({finding.about})" if finding.about else ""
    return (
        f"step {finding.step}: {finding.name}{about}: {finding.evidence}\n"
        f"  likely: {finding.cause}\n  change: {finding.change}\n  more:   {finding.link}"
    )
