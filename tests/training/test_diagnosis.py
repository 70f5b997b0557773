"""A run that stops over numbers that are not finite says of which record, token and layer, and goes no step further."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from testing_commands import in_two_processes
from vlm_r1.config import load_config
from vlm_r1.errors import ModelError
from vlm_r1.grpo.trainer import train
from vlm_r1.policy.logprobs import TokenLogProbs
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.supervised.trainer import train_sft
from vlm_r1.training.diagnosis import Suspect, find_cause

LAYER = "model.language_model.layers.1.mlp.down_proj"


def with_infinity(checkpoint: Path, folder: Path) -> Path:
    """A copy of a checkpoint with one infinite weight in the second layer."""
    shutil.copytree(checkpoint, folder)
    file = folder / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if name.endswith("layers.1.mlp.down_proj.weight"))
    weights[name][3, 5] = torch.inf
    save_file(weights, file, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("trainer", [train, train_sft])
def test_an_infinite_weight(trainer, recipe, tiny_checkpoint, tmp_path) -> None:
    model = with_infinity(tiny_checkpoint, tmp_path / "model")
    options = {"model.path": str(model), "training.max_skipped_steps": 2, "training.max_steps": 9}
    with pytest.raises(ModelError) as stopped:
        trainer(load_config(recipe(**options)))
    text = str(stopped.value)
    assert text.startswith("step 2: loss or gradient was not finite in 2 updates in a row. ")
    assert "train.jsonl:" in text
    assert "token 1 of " in text
    assert f"the first layer that is not finite is model.{LAYER};" in text
    assert f"The weights model.{LAYER}.weight are not finite" in text
    assert [row["steps/skipped"] for row in read_metrics(tmp_path / "run/metrics.jsonl")] == [1]


def test_a_reward_beyond_the_range_of_the_loss(recipe, tmp_path) -> None:
    options = {"grpo.scale_rewards": "none", "training.max_skipped_steps": 1}
    with pytest.raises(ModelError, match=r"train\.jsonl:\d+, completion \d of 4: its advantage .* look at its rewards"):
        train(load_config(recipe(**options, rewards={"testing_stops:huge": 1.0})))
    assert len(list((tmp_path / "run/rollouts").iterdir())) == 1, "the rollouts are kept"


def test_it_is_found_if_only_the_second_process_has_it(recipe) -> None:
    options = {"grpo.scale_rewards": "none", "training.max_skipped_steps": 2}
    path = str(recipe(**options, rewards={"testing_stops:huge": 1.0}))
    done = in_two_processes("-m", "vlm_r1.cli.main", "train", path)
    assert done.returncode == 1
    for process in (0, 1):
        (line,) = [one for one in done.stderr.splitlines() if one.startswith(f"process {process}: ModelError: step 2")]
        assert "look at its rewards" in line, "both say the same"


def test_an_update_that_breaks_the_weights_is_the_last(recipe, tmp_path) -> None:
    options = {"training.learning_rate": 1e39, "training.save_steps": 1, "training.max_steps": 5}
    with pytest.raises(ModelError, match=r"step 1: the update made weights that are not finite, first .* 1e\+39"):
        train(load_config(recipe(**options)))
    assert not list((tmp_path / "run").glob("checkpoints/*")), "nothing is saved of them"


class Chain(nn.Module):
    """Two layers and log-probabilities of two tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).sqrt())


def suspect(model: nn.Module, x: torch.Tensor, loss_of, **given: torch.Tensor) -> Suspect:
    def compute() -> tuple[TokenLogProbs, torch.Tensor]:
        logprobs_NT = model(x)[None]
        scored = TokenLogProbs(logprobs_NT, logprobs_NT.detach(), torch.ones(1, 2, dtype=torch.bool))
        return scored, loss_of(logprobs_NT)

    return Suspect("a.jsonl:7, completion 2 of 4", ["blue", " circle"], compute, given)


def chain(bias: float) -> Chain:
    model = Chain()
    with torch.no_grad():
        model.first.weight.zero_()
        model.first.bias.fill_(bias)
    return model


def total(values_NT: torch.Tensor) -> torch.Tensor:
    return values_NT.sum()


def second_token_is_no_number(values_NT: torch.Tensor) -> torch.Tensor:
    nothing = values_NT[0, 1] - values_NT[0, 1].detach()
    return values_NT[0, 0] + nothing / nothing


CASES = {
    "a layer": (-1.0, total, r"token 1 of 2 \('blue'\) has the log-probability nan; .* not finite is second"),
    "one token of a loss": (
        1.0,
        second_token_is_no_number,
        r"token 2 of 2 \(' circle'\) has a gradient .* loss is nan",
    ),
    "only a gradient": (0.0, total, r"its loss is finite, but not the gradient; backwards, .* not finite is first"),
}


@pytest.mark.parametrize("case", CASES)
def test_where_it_comes_from(case) -> None:
    bias, loss_of, message = CASES[case]
    model, x = chain(bias), torch.ones(3)
    healthy = suspect(chain(1.0), x, total)
    found = find_cause(model, [healthy, suspect(model, x, loss_of)])
    assert found is not None
    assert found.startswith("a.jsonl:7, completion 2 of 4: ")
    assert re.search(message, found), found
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.first._forward_hooks, "its hooks are gone"


def test_nothing_is_found_in_a_healthy_model() -> None:
    model = chain(1.0)
    assert find_cause(model, [suspect(model, torch.ones(3), total, advantage=torch.tensor([1.0]))]) is None


def test_numbers_that_are_given_to_the_loss() -> None:
    model = chain(1.0)
    found = find_cause(model, [suspect(model, torch.ones(3), total, advantage=torch.tensor([1.0, torch.inf]))])
    assert found == "a.jsonl:7, completion 2 of 4: advantage (inf)"
