"""examples/train_from_python.py runs as it is printed, in one process and in two, with the same results."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from testing_commands import PATHS, in_two_processes, untimed

PROGRAM = Path(__file__).resolve().parents[2] / "examples/train_from_python.py"


@pytest.mark.long
def test_one_process_and_two_are_the_same(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"}
    one = subprocess.run(
        [sys.executable, str(PROGRAM), str(tmp_path / "one")], env=environment, capture_output=True, text=True
    )
    assert one.returncode == 0, one.stderr
    two = in_two_processes(str(PROGRAM), str(tmp_path / "two"))
    assert two.returncode == 0, two.stderr
    for told in (one.stdout, two.stdout):
        assert told.count("stopped at step 3 of 6 (a callback asked); go on with: ") == 1
        assert told.count("loss of the warm start: ") == told.count("held-out accuracy: ") == 1
    for stage in ("warm", "run"):
        rows, others = (untimed(tmp_path / n / stage) for n in ("one", "two"))
        assert len(rows) == len(others) == (8 if stage == "warm" else 6)
        for row, other in zip(rows, others, strict=True):
            assert abs(row["loss"] - other["loss"]) < 1e-4
    best = [line for line in one.stdout.splitlines() if line.startswith("best completion")]
    assert best
    assert best == [line for line in two.stdout.splitlines() if line.startswith("best completion")]
