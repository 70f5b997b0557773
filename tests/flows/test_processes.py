"""Two processes are one: same samples, same metrics, same weights, and nobody hangs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vlm_r1.config import load_config
from vlm_r1.grpo.trainer import train
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.rollout_log import read_rollouts, rollouts_path

TESTS = Path(__file__).parents[1]


def test_two_processes_equal_one(recipe, rec_files, tmp_path) -> None:
    options = {
        "model.dtype": "float64",
        "training.max_steps": 2,
        "training.prompts_per_step": 6,
        "training.save_steps": 1,
        "grpo.loss_type": "dapo",
        "grpo.scale_rewards": "batch",
        "grpo.beta": 0.05,
        "grpo.num_iterations": 2,
        "data.eval": {"in_domain": {"path": str(rec_files["in_domain"])}},
        "data.train": [{"path": str(rec_files["train"])}, {"path": str(_text_only(tmp_path)), "task": "vqa"}],
    }
    train(load_config(recipe(**options, output_dir=str(tmp_path / "one"))))
    path = recipe(**options, output_dir=str(tmp_path / "two"))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [*launcher, "-m", "vlm_r1.cli.main", "train", str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "layout packed" in done.stdout
    states = sorted(path.name for path in (tmp_path / "two/checkpoints/step-000002/state").glob("random_states_*"))
    assert states == ["random_states_0.pkl", "random_states_1.pkl"], "two processes did run"
    one, two = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        for key in a.keys() - {"stage"}:
            if not key.startswith(("time/", "tokens_per_s/")):
                assert b[key] == pytest.approx(a[key], rel=1e-5, abs=1e-7), key
    for a, b in zip(*(read_rollouts(rollouts_path(tmp_path / name, 1)) for name in ("one", "two")), strict=True):
        assert (a.record_id, a.text, a.reward) == (b.record_id, b.text, b.reward)
    a, b = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two"))
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=1e-6, rtol=0, msg=name)


def _text_only(folder: Path) -> Path:
    """Records without images, so that a process may have nothing to do for the vision tower."""
    turns = [[{"from": "human", "value": f"what is {n}"}, {"from": "gpt", "value": str(n)}] for n in range(24)]
    lines = [json.dumps({"id": n, "conversations": conversations}) for n, conversations in enumerate(turns)]
    path = folder / "text.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
