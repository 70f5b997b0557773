"""Signs that a run goes wrong: pure functions of its metrics, its answers and its held-out results.

`examine` returns the findings. docs/doctor.md has a section for each.
"""

from vlm_r1.doctor.base import Finding, HeldOut, Seen, Settings
from vlm_r1.doctor.examine import examine, examine_run

__all__ = ["Finding", "HeldOut", "Seen", "Settings", "examine", "examine_run"]
