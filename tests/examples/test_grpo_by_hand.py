"""examples/grpo_by_hand.py does what the trainer does, in at most 150 lines."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from vlm_r1.config import Config, load_config
from vlm_r1.config.schema import DataSource, ModelSection
from vlm_r1.data.sources import load_sources
from vlm_r1.grpo.loss import LOSSES
from vlm_r1.grpo.update import assign_advantages, update_policy
from vlm_r1.models import Adapter, load_adapter, load_model
from vlm_r1.policy.build import build_policy, setup_of
from vlm_r1.rollouts.env import Env
from vlm_r1.rollouts.groups import sample_groups
from vlm_r1.runtime.phases import Phases
from vlm_r1.sampling import SamplingParams, completion_seed
from vlm_r1.sampling.hf import HFSampler
from vlm_r1.tasks.templates import make_templates
from vlm_r1.training.learner import Learner
from vlm_r1.types import Record

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))
by_hand = importlib.import_module("grpo_by_hand")

RUN_SEED, G = 3, 4


@pytest.fixture
def records(rec_files) -> list[Record]:
    return list(load_sources([DataSource(path=str(rec_files["train"]))])[:4])


@pytest.fixture
def make_config(recipe, tiny_checkpoint, tmp_path):
    """`make_config(**options)`: a recipe that says what the example does, in float64.

    Every fourth token ends an answer, so that lengths differ; some answers are cut off.
    """
    model = tmp_path / "stops_early"
    shutil.copytree(tiny_checkpoint, model)
    settings = json.loads((model / "generation_config.json").read_text(encoding="utf-8"))
    settings["eos_token_id"] = [settings["eos_token_id"], *range(100, 200)]
    (model / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")

    def make(**options: Any) -> Config:
        own = {"model.path": str(model), "model.dtype": "float64", "grpo.loss_type": "dapo"}
        return load_config(recipe(**own | options))

    return make


def seeds(records: Sequence[Record]) -> list[list[int]]:
    """Those of the trainer's first step."""
    return [[completion_seed(RUN_SEED, draw, record, g) for g in range(G)] for draw, record in enumerate(records)]


def env_of(config: Config, adapter: Adapter) -> Env:
    return Env(adapter, make_templates("bare"), config.rewards)


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def step_by_trainer(config: Config, adapter: Adapter, records: Sequence[Record]):
    """Reward, loss, norm and weights after the trainer's own step."""
    learner = Learner(config, adapter, None, temperature=1.0)
    learner.begin_step()
    sampler, params = HFSampler(learner.model, adapter), SamplingParams.of(config.sampling)
    groups = sample_groups(
        records,
        env_of(config, adapter),
        sampler,
        params,
        n=G,
        run_seed=RUN_SEED,
        draws=range(len(records)),
        phases=Phases(),
    )
    metrics = update_policy(assign_advantages(groups, config, learner), groups[0], learner, None, Phases())
    rewards = [rollout.score.reward for group in groups for rollout in group.rollouts]
    return sum(rewards) / len(rewards), metrics["loss"].total, metrics["grad_norm"].total, weights(learner.model)


def step_by_hand(config: Config, adapter: Adapter, records: Sequence[Record], monkeypatch, tokens_at_once: int = 8192):
    """The same of the example's step."""
    monkeypatch.setattr(by_hand, "MAX_NEW_TOKENS", config.sampling.max_completion_length)
    monkeypatch.setattr(by_hand, "TOKENS_AT_ONCE", tokens_at_once)
    policy = build_policy(config.model, adapter, setup_of(config, adapter))
    optimizer = torch.optim.AdamW(policy.parameters(), lr=config.training.learning_rate, weight_decay=0.0)
    numbers = by_hand.grpo_step(policy, env_of(config, adapter), optimizer, records, seeds(records))
    return *numbers, weights(policy.model)


@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "dr_grpo", "gspo"])
def test_a_step_is_the_trainers_own(make_config, adapter, records, monkeypatch, loss_type):
    monkeypatch.setattr(by_hand, "LOSS", LOSSES[loss_type])
    config = make_config(**{"grpo.loss_type": loss_type})
    reward, loss, norm, trained = step_by_trainer(config, adapter, records)
    own_reward, own_loss, own_norm, own_trained = step_by_hand(config, adapter, records, monkeypatch, 256)
    assert own_reward == pytest.approx(reward, rel=1e-12)
    assert own_loss == pytest.approx(loss, rel=1e-9, abs=1e-12)
    assert own_norm == pytest.approx(norm, rel=1e-9)
    assert norm > 1e-2
    assert own_trained.keys() == trained.keys()
    for name in trained:
        torch.testing.assert_close(own_trained[name], trained[name], atol=1e-7, rtol=0, msg=name)


def test_the_number_of_passes_changes_nothing(make_config, adapter, records, monkeypatch):
    one, many = (step_by_hand(make_config(), adapter, records, monkeypatch, tokens) for tokens in (8192, 60))
    assert many[:3] == pytest.approx(one[:3], rel=1e-7)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"grpo.loss_type": "grpo"}, id="another loss"),
        pytest.param({"grpo.scale_rewards": "none"}, id="other advantages"),
        pytest.param({"rewards": {"testing_rewards:mostly_letters": 1.0}}, id="another reward"),
    ],
)
def test_control_another_objective_is_another_step(make_config, adapter, records, monkeypatch, options):
    _, _, norm, trained = step_by_trainer(make_config(**options), adapter, records)
    _, _, own_norm, own_trained = step_by_hand(make_config(), adapter, records, monkeypatch)
    assert own_norm != pytest.approx(norm, rel=1e-2)
    assert any(float((own_trained[name] - trained[name]).abs().max()) > 1e-4 for name in trained)


def test_the_reward_rises(make_config, tiny_checkpoint, adapter, records, monkeypatch):
    """The share of letters, which even a random model can raise."""
    config = make_config(**{"model.path": str(tiny_checkpoint), "rewards": {"testing_rewards:letters": 1.0}})
    monkeypatch.setattr(by_hand, "MAX_NEW_TOKENS", 8)
    policy, env = build_policy(config.model, adapter, setup_of(config, adapter)), env_of(config, adapter)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=2e-3, weight_decay=0.0)
    rewards = [
        by_hand.grpo_step(policy, env, optimizer, records, [[20 * step + g for g in range(8)]] * 4)[0]
        for step in range(12)
    ]
    assert sum(rewards[-3:]) > sum(rewards[:3]) + 0.3, rewards


def test_the_whole_script(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(by_hand, "P", 2)
    monkeypatch.setattr(by_hand, "RECORDS", 100)
    by_hand.main(["--warm-steps", "1", "--steps", "20"])
    title, row = capsys.readouterr().out.splitlines()
    assert title == " step  CPU s  reward  held-out accuracy (0.0% so far)"
    step, _, reward, accuracy = row.split()
    assert (step, float(reward), accuracy) == ("20", 0.0, "0.0%"), "control: without a warm start nothing is learnt"
    assert list(tmp_path.iterdir()) == [], "nothing is saved unless asked"


def test_a_model_and_data_of_ones_own(tiny_checkpoint, rec_files, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--model", str(tiny_checkpoint), "--data", str(rec_files["warmup"]), "--out", str(out)]
    by_hand.main([*options, "--warm-steps", "2", "--steps", "1"])
    assert capsys.readouterr().out.count("\n") == 1
    adapter = load_adapter(out)
    models = [load_model(ModelSection(path=str(path)), adapter) for path in (tiny_checkpoint, out)]
    start, trained = map(weights, models)
    assert start.keys() == trained.keys()
    assert any(not torch.equal(start[name], trained[name]) for name in start)


@pytest.mark.long
def test_it_learns_to_draw_boxes(capsys):
    by_hand.main([])
    shown = capsys.readouterr().out
    before = float(shown.partition("accuracy (")[2].partition("%")[0])
    after = float(shown.splitlines()[-1].split()[3].rstrip("%"))
    assert after > before + 10


def test_it_is_short():
    assert len((EXAMPLES / "grpo_by_hand.py").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("option", ["--model", "--data"])
def test_a_model_without_data_is_an_error(option, capsys) -> None:
    with pytest.raises(SystemExit):
        by_hand.main([option, "somewhere"])
    assert "give both, or neither" in capsys.readouterr().err
