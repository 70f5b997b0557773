"""`--rehearse` on the command line: what `sft` does, how an error names its stage, and options without effect."""

from __future__ import annotations

import os
import re

import pytest

from testing_rehearsals import call, write_recipe
from vlm_r1.runtime.metrics_log import read_metrics


def test_sft_is_rehearsed_too(tmp_path, rec_files) -> None:
    done = call("sft", write_recipe(tmp_path, rec_files), "--rehearse", "--data.eval={}", "--training.eval_steps=0")
    assert done.status == 0, done.errors
    assert "– evaluation" in done.shown
    assert "the recipe has no data.eval" in " ".join(done.shown.split())
    assert not re.search("^. rewards", done.shown, flags=re.MULTILINE)
    assert read_metrics(tmp_path / "run-rehearsal/run/metrics.jsonl")[0]["stage"] == "sft"


@pytest.mark.parametrize(
    ("arguments", "stage", "message"),
    [
        pytest.param(["--data.train.0.path=no.jsonl"], "data", "no.jsonl", id="no data"),
        pytest.param(["--data.train.0.task=counting"], "data", "is no count", id="answers of another kind"),
        pytest.param(["--model.path=my/model"], "model", "--family NAME", id="unknown family"),
        pytest.param(["--family", "qwen9_vl"], "model", 'Did you mean "qwen3_vl"', id="no such family"),
        pytest.param(["--data.template=r9"], "model", 'unknown template "r9"', id="no such template"),
        pytest.param(['--rewards={"testing_rewards:breaks": 1}'], "rewards", "testing_rewards", id="broken reward"),
    ],
)
def test_an_error_names_its_stage(arguments, stage, message, tmp_path, rec_files) -> None:
    done = call("train", write_recipe(tmp_path, rec_files), "--rehearse", *arguments)
    assert done.status == 2
    assert f"rehearsal, stage {stage}: " in done.errors
    assert message in done.errors
    assert re.search(rf"^✗ {stage}", done.shown, flags=re.MULTILINE)
    assert "rehearsed: everything works" not in done.shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--rehearse", "--dry-run"], "--dry-run has no effect with --rehearse", id="dry run"),
        pytest.param(["--rehearse", "--resume"], "--resume has no effect with --rehearse", id="resume"),
        pytest.param(["--family", "qwen2_vl"], "--family has no effect without --rehearse", id="family alone"),
    ],
)
def test_options_without_effect(arguments, message, tmp_path, rec_files) -> None:
    done = call("train", write_recipe(tmp_path, rec_files), *arguments)
    assert done.status == 2
    assert message in done.errors


def test_gpus_are_hidden_only_meanwhile(tmp_path, rec_files, monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.delenv("HIP_VISIBLE_DEVICES", raising=False)
    assert call("train", write_recipe(tmp_path, rec_files), "--rehearse", "--data.train.0.path=no.jsonl").status == 2
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    assert "HIP_VISIBLE_DEVICES" not in os.environ
