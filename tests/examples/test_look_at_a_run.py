"""examples/look_at_a_run.py runs as it is printed, and on a run that is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from testing_commands import PATHS

PROGRAM = Path(__file__).resolve().parents[2] / "examples/look_at_a_run.py"


def run(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_trains_shows_and_measures(tmp_path: Path) -> None:
    told = run(tmp_path)
    (folder,) = tmp_path.glob("vlm_r1_*")
    assert "before-held_out" in told
    assert "truth: " in told
    for name in ("group.png", "longest.png"):
        with Image.open(folder / name) as picture:
            assert max(picture.size) >= 320
    again = run(tmp_path, str(folder / "run"))
    assert again.count("truth: ") == 1
