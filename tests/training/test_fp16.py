"""Passes in float16: near float32, with a scaled loss whose overflows are skipped and do not stop a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from testing_commands import in_two_processes
from testing_runs import untimed
from vlm_r1.config import load_config
from vlm_r1.errors import ModelError
from vlm_r1.grpo.trainer import train
from vlm_r1.policy.logprobs import CompletionBatch
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.supervised.trainer import train_sft
from vlm_r1.training.differences import gradient_difference
from vlm_r1.training.learner import Learner

FP16: dict[str, Any] = {"training.mixed_precision": "fp16"}
OVERFLOWS: dict[str, Any] = {**FP16, "grpo.scale_rewards": "none", "training.max_skipped_steps": 1}
LARGE: dict[str, Any] = {"testing_stops:large": 1.0}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"training.optim": "muon"}, id="packed, two optimizers"),
        pytest.param({"training.layout": "rows", "grpo.beta": 0.04}, id="rows, reference"),
        pytest.param({"model.lora": {"r": 2}}, id="LoRA"),
    ],
)
def test_a_run_is_near_float32(options: dict[str, Any], recipe, tmp_path) -> None:
    """The trust checks of both pass. A token may be drawn differently, so single numbers are not compared."""
    rows = {}
    for kind in ("no", "fp16"):
        path = recipe(**options, **{"training.mixed_precision": kind, "output_dir": str(tmp_path / kind)})
        train(load_config(path))
        rows[kind] = read_metrics(tmp_path / kind / "metrics.jsonl")
    for exact, half in zip(rows["no"], rows["fp16"], strict=True):
        assert half["entropy"] == pytest.approx(exact["entropy"], abs=0.02)
        assert half["sampling/sampling_logp_difference/max"] < 0.01
        assert half["loss_scale"] >= 2**14, "with LoRA the first one, 2^16, is too large"
        assert "loss_scale" not in exact
    assert sum(row["steps/skipped"] for row in rows["fp16"]) < len(rows["fp16"])


def test_supervised_losses_are_those_of_float32(recipe, tmp_path) -> None:
    losses = {}
    for kind in ("no", "fp16", "bf16"):
        path = recipe(**{"training.mixed_precision": kind, "output_dir": str(tmp_path / kind)})
        train_sft(load_config(path))
        losses[kind] = [row["loss"] for row in read_metrics(tmp_path / kind / "metrics.jsonl")]
    assert losses["fp16"] == pytest.approx(losses["no"], rel=3e-4)
    assert losses["fp16"] != losses["no"], "control: it was float16"


def test_gradients_are_those_of_float32(recipe, adapter, prompts) -> None:
    """To rounding; the control: before they are divided by the scale they differ by 65,535 times their size."""
    learners = {
        kind: Learner(load_config(recipe(**{"training.mixed_precision": kind})), adapter, None, temperature=1.0)
        for kind in ("no", "fp16")
    }
    batch = CompletionBatch([prompts["one"], prompts["none"]], [[(5, 6, 7), (8, 9)], [(9, 4), (3, 5, 8)]])
    gradients = {}
    for kind, learner in learners.items():
        parameters = [p for p in learner.policy.parameters() if p.requires_grad]
        learner.backward(learner.score(batch).logprobs_NT.sum() / 100)
        if learner.loss_scale is not None:
            scaled = [p.grad.clone() for p in parameters]
            learner.loss_scale.unscale(parameters)
        gradients[kind] = [p.grad for p in parameters]
    assert gradient_difference(gradients["fp16"], gradients["no"]) < 5e-3
    assert gradient_difference(scaled, gradients["no"]) == pytest.approx(65535, rel=0.01)


def test_overflows_are_skipped_and_the_run_goes_on(recipe, tmp_path, tiny_checkpoint) -> None:
    """`max_skipped_steps` is 1, yet steps are skipped: each halves the scale and leaves the weights as they are."""
    path = recipe(
        **OVERFLOWS,
        **{"training.max_steps": 9, "training.save_steps": 1, "training.save_total_limit": 9},
        rewards=LARGE,
    )
    train(load_config(path))
    rows = read_metrics(tmp_path / "run/metrics.jsonl")
    skipped = [bool(row["steps/skipped"]) for row in rows]
    n = skipped.index(False)
    assert 1 < n < 9
    assert [row["loss_scale"] for row in rows] == [2.0 ** (16 - min(step, n)) for step in range(1, 10)]
    start = AutoModelForImageTextToText.from_pretrained(tiny_checkpoint, dtype=torch.float32)
    start.save_pretrained(tmp_path / "start")
    before = weights(tmp_path / "start")
    for step in range(1, 10):
        after = weights(tmp_path / f"run/checkpoints/step-{step:06}")
        assert all(torch.equal(after[name], before[name]) for name in after) == skipped[step - 1], step
        before = after


def test_a_resumed_run_has_the_same_scale(recipe, tmp_path) -> None:
    options = {**OVERFLOWS, "training.max_steps": 6, "training.save_steps": 1, "training.save_total_limit": 9}
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    train(load_config(recipe(**options, output_dir=str(whole), rewards=LARGE)))
    shutil.copytree(whole, resumed)
    for later in ("step-000004", "step-000005", "step-000006"):
        shutil.rmtree(resumed / "checkpoints" / later)
    shutil.rmtree(resumed / "model")
    train(load_config(recipe(**options, output_dir=str(resumed), rewards=LARGE)), resume=True)
    rows, again = (read_metrics(folder / "metrics.jsonl") for folder in (whole, resumed))
    assert untimed(rows) == untimed(again)
    one, two = (weights(folder / "model") for folder in (whole, resumed))
    assert all(torch.equal(one[name], two[name]) for name in one)
    scales = [row["loss_scale"] for row in rows]
    assert scales[2] < 65536, "control: the scale of the checkpoint is not the first one"


PROGRAM = """
import sys
import torch
from vlm_r1.config import load_config
from vlm_r1.models import load_adapter
from vlm_r1.training.learner import Learner
from vlm_r1.training.processes import leave_processes

config = load_config(sys.argv[1])
learner = Learner(config, load_adapter(config.model.path), None, temperature=1.0)
rank, weights = learner.accelerator.process_index, next(learner.policy.parameters())
lines = []
for _ in range(6):
    learner.backward((weights.half() * (10 if rank else 1)).float().sum())
    norm = learner.update(1.0)
    lines.append(f"{norm} {learner.loss_scale.scale} {float(weights.detach().sum())}")
everyone = learner.gather(lines)
if rank == 0:
    sys.stdout.write("\\n".join(everyone))
leave_processes()
"""


def test_processes_agree_if_only_the_second_overflows(recipe, tmp_path) -> None:
    """Its gradient in float16 is 10 times the scale, and 65,504 the largest number: 2^16 … 2^13 are too large."""
    (tmp_path / "program.py").write_text(PROGRAM)
    path = recipe(**FP16, **{"training.max_skipped_steps": 1})
    done = in_two_processes(str(tmp_path / "program.py"), str(path))
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == 12
    assert lines[:6] == lines[6:]
    assert [float(scale) for _, scale, _ in lines[:6]] == [2.0**n for n in (15, 14, 13, 12, 12, 12)]
    assert [norm == "inf" for norm, *_ in lines[:6]] == [True] * 4 + [False] * 2
    assert len({total for *_, total in lines[:4]}) == 1, "weights stay"
    assert len({total for *_, total in lines[3:6]}) == 3, "and then learn"


def test_infinite_gradients_stop_a_run_once_the_scale_is_1(recipe, adapter) -> None:
    """2^16 falls in 16 updates, which do not count; then two do. A loss that is not finite counts at once."""
    config = load_config(recipe(**FP16, **{"training.max_skipped_steps": 2}))
    learner = Learner(config, adapter, None, temperature=1.0)
    parameter = next(learner.policy.parameters())

    def update(loss: float) -> None:
        parameter.grad = torch.full_like(parameter, torch.inf)
        learner.update(loss)

    for n in range(16):
        update(0.5)
        assert learner.loss_scale is not None
        assert (learner.skipped_in_a_row, learner.loss_scale.scale) == (0, 2.0 ** (15 - n))
    update(0.5)
    with pytest.raises(ModelError, match="not finite in 2 updates in a row"):
        update(0.5)
    other = Learner(config, adapter, None, temperature=1.0)
    learner, parameter = other, next(other.policy.parameters())
    update(float("nan"))
    assert learner.loss_scale is not None
    assert (learner.skipped_in_a_row, learner.loss_scale.scale) == (1, 65536)


def test_a_loss_that_is_not_finite_stops_with_its_cause(recipe, tmp_path) -> None:
    options = {**FP16, "grpo.scale_rewards": "none", "training.max_skipped_steps": 2}
    with pytest.raises(ModelError, match=r"step 2: .* in 2 updates .*completion \d of 4: its advantage .* look at its"):
        train(load_config(recipe(**options, rewards={"testing_stops:huge": 1.0})))
    assert [row["loss_scale"] for row in read_metrics(tmp_path / "run/metrics.jsonl")] == [65536]
