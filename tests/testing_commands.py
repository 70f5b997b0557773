"""What tests of whole commands share: start them, in one process or two, wait for them, and compare run folders."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

import vlm_r1
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.rollout_log import read_rollouts

PATHS = os.pathsep.join(map(str, (Path(vlm_r1.__file__).parents[1], Path(__file__).parent)))
PATIENCE_S = 120


def start(*arguments: str, before: Callable[[], None] | None = None, **variables: str) -> subprocess.Popen[str]:
    """Start the command as a user does, its output in pipes."""
    environment = {**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "-m", "vlm_r1.cli.main", *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before
    )


def wait_for(line: str, process: subprocess.Popen[str]) -> None:
    """Read the output of a process up to this line."""
    assert process.stdout is not None
    for own in process.stdout:
        if line in own:
            return
    raise AssertionError(process.communicate()[1])


def wait_for_steps(folder: Path, n: int, process: subprocess.Popen[str]) -> None:
    """Wait until n steps are logged."""
    file, deadline = folder / "metrics.jsonl", time.monotonic() + PATIENCE_S
    while not file.exists() or file.read_text().count("\n") < n:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, f"{file} has no {n} lines yet"
        time.sleep(0.005)


def untimed(folder: Path) -> list[dict]:
    """Rows of the metrics without what depends on the clock."""
    rows = read_metrics(folder / "metrics.jsonl")
    return [{k: v for k, v in row.items() if not k.startswith(("time/", "tokens_per_s/"))} for row in rows]


def assert_equal(a: Path, b: Path) -> None:
    """Compare two run folders: metrics, evaluations, rollouts and weights, to the last bit."""
    assert untimed(a) == untimed(b)
    names = [sorted(file.name for file in (run / "eval").iterdir()) for run in (a, b)]
    assert names[0] == names[1]
    for name in names[0]:
        assert (a / "eval" / name).read_bytes() == (b / "eval" / name).read_bytes(), name
    for file in sorted((a / "rollouts").glob("*.parquet")):
        assert read_rollouts(file) == read_rollouts(b / "rollouts" / file.name), file.name
    one, other = (load_file(run / "model/model.safetensors") for run in (a, b))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def closed_output(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command whose output nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "vlm_r1.cli.main", *arguments]
    try:
        return subprocess.run(command, env=environment, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=240)
    finally:
        os.close(writer)


def in_two_processes(*program: str) -> subprocess.CompletedProcess[str]:
    """Run a program twice at once, on these sources, and return when both have ended."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.run([*launcher, *program], env=environment, capture_output=True, text=True, timeout=240)
