"""Each finding is made by a small real run that goes wrong in its way, and not by the run that is its control."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from testing_engines import HELD_OUT_FROM, write_records
from vlm_r1.config import load_config
from vlm_r1.doctor import examine_run
from vlm_r1.grpo.trainer import train

PAGE = (Path(__file__).resolve().parents[2] / "docs/doctor.md").read_text(encoding="utf-8")

RANDOM_TEXT = {
    "reward": "testing_rewards:letters",
    "rewards": {"accuracy": 1.0},
    "data.eval": {},
    "sampling.max_completion_length": 8,
    "grpo.num_generations": 4,
    "grpo.beta": 1e-3,
}
"""The random model itself answers. It writes no tags and no stop token, and is paid for letters."""

NO_TAGS = ["parse-failures", "truncated"]

RUNS = [
    pytest.param("RIGHT", {}, [], id="healthy: the control of those that follow"),
    pytest.param(
        "LISTS_MORE",
        {"training.prompts_per_step": 1},
        ["held-out-falls (val)", "more-boxes", "recall-for-precision", "longer-under-ap"],
        id="it lists ever more boxes",
    ),
    pytest.param("LATER_NONE", {}, ["one-answer", "no-signal", "length-collapses"], id="it comes to say None always"),
    pytest.param(
        "ALWAYS_NONE", {"training.max_steps": 8}, ["one-answer", "no-spread-at-start"], id="it always said None"
    ),
    pytest.param("RAMBLES", {"training.prompts_per_step": 1}, ["length-grows"], id="it thinks ever longer"),
    pytest.param("RIGHT_IN_THOUSANDTHS", {"training.max_steps": 6}, ["other-coordinates"], id="thousandths as pixels"),
    pytest.param(
        "RIGHT_IN_THOUSANDTHS",
        {"training.max_steps": 6, "model.box_format": "norm_1000"},
        [],
        id="control: thousandths as thousandths",
    ),
    pytest.param(
        "THINKS_LONG",
        {"training.max_steps": 10, "sampling.max_completion_length": 128},
        ["parse-failures", "truncated"],
        id="half the thoughts are too long for the limit",
    ),
    pytest.param("THINKS_LONG", {"training.max_steps": 10}, [], id="control: they have room"),
    pytest.param(
        None,
        {**RANDOM_TEXT, "training.learning_rate": 0.1},
        ["dead-reward (accuracy)", "no-signal", *NO_TAGS, "entropy-collapse", "kl-blow-up"],
        id="a learning rate 100,000 times too large",
    ),
    pytest.param(None, RANDOM_TEXT, NO_TAGS, id="control: a small learning rate, and the right sampler"),
    pytest.param(
        "Warmer",
        {**RANDOM_TEXT, "training.max_steps": 12, "training.trust_checks": True},
        [*NO_TAGS, "sampler-drift"],
        id="a sampler that changes its temperature after the trust checks",
    ),
]


@pytest.fixture
def detection(recipe, tmp_path):
    """A recipe of 30 steps of detection."""
    training = write_records(tmp_path / "train.jsonl", range(1, 41))
    held_out = write_records(tmp_path / "val.jsonl", range(HELD_OUT_FROM + 1, HELD_OUT_FROM + 5))

    def write(engine, reward="ap50", **overrides):
        settings = {
            "data.train": [{"path": str(training), "task": "ovd", "reward": reward}],
            "data.eval": {"val": {"path": str(held_out), "task": "ovd"}},
            "rewards": {"accuracy": 1.0, "format": 0.5},
            "sampling.max_completion_length": 256,
            "grpo.num_generations": 2,
            "training.max_steps": 30,
            "model.freeze": ["vision", "projector"],
            "training.prompts_per_step": 2,
            "training.max_tokens_per_micro_batch": 4096,
            "training.learning_rate": 1e-6,
            "training.lr_scheduler_type": "constant",
            "training.trust_checks": False,
            "training.save_steps": 0,
        }
        if engine is not None:  # else transformers
            settings["sampling.engine"] = f"testing_engines:{engine}"
        return load_config(recipe(**{**settings, **overrides}))

    return write


@pytest.mark.parametrize(("engine", "overrides", "found"), RUNS)
def test_a_run_finds_how_it_goes_wrong(engine, overrides, found, detection, tmp_path, capsys):
    findings = train(detection(engine, **overrides))["findings"]
    assert [f"{one['name']} ({one['about']})" if one["about"] else one["name"] for one in findings] == found
    assert [one.as_json() for one in examine_run(tmp_path / "run")] == findings
    said = re.findall(r"^step \d+: ([^:]+): ", capsys.readouterr().out, flags=re.MULTILINE)
    assert set(found) <= set(said)
    assert bool(found) or not said, "a healthy run is told of nothing at any step"


def test_every_finding_has_such_a_run():
    found = {name.split()[0] for run in RUNS for name in run.values[2]}
    assert found == set(re.findall(r"^### (\S+)$", PAGE, flags=re.MULTILINE))
