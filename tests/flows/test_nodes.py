"""The command of docs/machines.md for several machines: two torchruns that meet at an address are one run."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from testing_commands import PATHS
from vlm_r1.config import load_config
from vlm_r1.grpo.trainer import train
from vlm_r1.runtime.metrics_log import read_metrics

PAGE = Path(__file__).resolve().parents[2] / "docs/machines.md"


def documented(recipe: Path, address: str) -> list[str]:
    """The page's command, with one CPU process on each node in the place of eight GPUs."""
    [block] = re.findall(r"^torchrun --nnodes 2.*?(?=^```)", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    for old, new in {"node1:29500": address, "nproc_per_node 8": "nproc_per_node 1", "RECIPE": str(recipe)}.items():
        assert old in block
        block = block.replace(old, new)
    words = shlex.split(block.replace("\\\n", " "))
    assert words[0] == "torchrun"
    assert words[-1].startswith("--output_dir=")
    return [sys.executable, "-m", "torch.distributed.run", *words[1:-1]]


def test_two_nodes_equal_one_process(recipe, tmp_path) -> None:
    options = {"model.dtype": "float64", "training.max_steps": 2}
    train(load_config(recipe(**options, output_dir=str(tmp_path / "one"))))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    command = documented(recipe(**options, output_dir=str(tmp_path / "two")), address)
    environment = {**os.environ, "PYTHONPATH": PATHS, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    both: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": environment}
    nodes = [subprocess.Popen(command, **both) for _ in range(2)]
    told = [node.communicate(timeout=240)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(told)
    assert json.loads((tmp_path / "two/environment.json").read_text())["processes"] == 2
    one, two = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    assert len(one) == len(two) == 2
    for a, b in zip(one, two, strict=True):
        assert b["reward/mean"] == pytest.approx(a["reward/mean"], rel=1e-5, abs=1e-7)
    a, b = (load_file(tmp_path / name / "model/model.safetensors") for name in ("one", "two"))
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=1e-6, rtol=0, msg=name)
