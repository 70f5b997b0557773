"""Two processes are one: same samples, same metrics, same weights, and nobody hangs.

This file is the test and, run as a program by torchrun, each of two processes, one of which has a bug.
"""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from testing_commands import in_two_processes
from vlm_r1.config import load_config
from vlm_r1.errors import ModelError
from vlm_r1.grpo.trainer import train
from vlm_r1.rollouts.env import Env
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.rollout_log import read_rollouts, rollouts_path
from vlm_r1.sampling.hf import HFSampler
from vlm_r1.types import Segment, StopReason

LEAVES_OUT = "testing_rewards:letters_of_even"


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
        "grpo.steps_per_generation": 3,
        "grpo.dynamic_sampling_rounds": 2,
        "grpo.perception_coef": 0.02,
        "grpo.perception_entropy_coef": 0.01,
        "grpo.entropy_coef": 0.01,
        "grpo.top_entropy_quantile": 0.5,
        "rewards": {"accuracy": 1.0, "format": 0.5, "testing_rewards:letters": 1.0, LEAVES_OUT: 1.0},
        "data.eval": {"in_domain": {"path": str(rec_files["in_domain"])}},
        "training.eval_steps": 1,
        "sampling.repetition_penalty": 1.1,
        "training.num_generations_eval": 3,
        "data.train": [{"path": str(rec_files["train"])}, {"path": str(_text_only(tmp_path)), "task": "vqa"}],
    }
    train(load_config(recipe(**options, output_dir=str(tmp_path / "one"))))
    path = recipe(**options, output_dir=str(tmp_path / "two"))
    done = in_two_processes("-m", "vlm_r1.cli.main", "train", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "layout packed" in done.stdout
    assert json.loads((tmp_path / "two/environment.json").read_text())["processes"] == 2, "two processes did run"
    one, two = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        for key in a.keys() - {"stage"}:
            if not key.startswith(("time/", "tokens_per_s/")):
                assert b[key] == pytest.approx(a[key], rel=1e-5, abs=1e-7), key
    assert one[0].keys() >= {
        "perception_kl",
        "eval/in_domain/accuracy_iou50_pass@3",
        "seen/share",
        "seen/step",
        f"rewards/{LEAVES_OUT}/left_out",
    }
    for a, b in zip(*(read_rollouts(rollouts_path(tmp_path / name, 1)) for name in ("one", "two")), strict=True):
        assert (a.record_id, a.text, a.reward, a.extra) == (b.record_id, b.text, b.reward, b.extra)
    a, b = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two"))
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=1e-6, rtol=0, msg=name)


def test_a_failed_check_names_the_record_of_the_process_that_failed(recipe) -> None:
    done = in_two_processes(__file__, str(recipe()))
    own: dict[str, set[str]] = {"0": set(), "1": set()}
    for line in done.stdout.splitlines():
        if line.startswith("process "):
            _, rank, source = line.split(" ", 2)
            own[rank].add(source)
    assert len(own["0"]) == len(own["1"]) == 2
    failed = re.findall(r"failed: trust check failed on (.*?:\d+): a completion of", done.stdout)
    assert len(failed) == 2, done.stdout + done.stderr
    assert set(failed) <= own["1"]


def main(path: str) -> None:
    """Train in one process of two; the second one's sampler cuts the stop token off."""
    rank = int(os.environ["RANK"])
    complete, encode = HFSampler._completion, Env.encode

    def cut(self, ids, logprobs, stop_ids):
        whole = complete(self, ids, logprobs, stop_ids)
        return replace(whole, stop_reason=StopReason.STOP, segments=(Segment((7,), (-1.0,)),))

    def told(self, record):
        sys.stdout.write(f"process {rank} {record.source}\n")
        return encode(self, record)

    if rank == 1:
        HFSampler._completion = cut  # type: ignore[method-assign]
    Env.encode = told  # type: ignore[method-assign]
    try:
        train(load_config(path))
    except ModelError as error:
        sys.stdout.write(f"failed: {error}\n")


def _text_only(folder: Path) -> Path:
    """Records without images, so that a process may have nothing to do for the vision tower."""
    turns = [[{"from": "human", "value": f"what is {n}"}, {"from": "gpt", "value": str(n)}] for n in range(24)]
    lines = [json.dumps({"id": n, "conversations": conversations}) for n, conversations in enumerate(turns)]
    path = folder / "text.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


if __name__ == "__main__":
    main(*sys.argv[1:])
