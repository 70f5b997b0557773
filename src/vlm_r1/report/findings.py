"""The doctor's findings at the top of a run's page (docs/doctor.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vlm_r1.doctor.base import Finding
from vlm_r1.doctor.examine import examine, loss_note
from vlm_r1.doctor.read import read_seen
from vlm_r1.report.read import Run
from vlm_r1.report.tables import Comparison, readable


@dataclass(frozen=True)
class Doctored:
    """What the doctor says about a run.

    Attributes:
        findings: in the order of its signs.
        loss_note: why a loss near 0 is normal, if it is near 0; else "".
    """

    findings: tuple[Finding, ...] = ()
    loss_note: str = ""


def doctored(run: Run) -> Doctored:
    """Examine a run folder; files that cannot be read are left out here, and named where the page shows them.

    Raises:
        CheckpointError: it is not a run folder any more.
    """
    seen, _ = read_seen(run.folder)
    return Doctored(tuple(examine(seen)), loss_note(seen))


def unpraised(comparisons: Sequence[Comparison], findings: Sequence[Finding]) -> list[Comparison]:
    """Return the comparisons without praise where a finding says that the better number means nothing."""
    doubted = {readable(finding.about) for finding in findings if finding.doubts}
    return [
        replace(row, better=None) if row.better and ("" in doubted or row.dataset in doubted) else row
        for row in comparisons
    ]
