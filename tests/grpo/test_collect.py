"""Dynamic sampling with scripted answers: when it draws again, what it keeps, what it counts, and resuming it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence

import pytest
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from vlm_r1.config import load_config
from vlm_r1.grpo.collect import collect_groups
from vlm_r1.grpo.reference import Reference
from vlm_r1.grpo.trainer import train
from vlm_r1.grpo.update import assign_advantages, update_policy
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.runtime.phases import Phases
from vlm_r1.runtime.rollout_log import read_rollouts, rollouts_path
from vlm_r1.sampling import SamplingParams
from vlm_r1.sampling.scripted import ScriptedSampler
from vlm_r1.training.run import open_training
from vlm_r1.training.steps import TrainingRun
from vlm_r1.types import Group

PARAMS = SamplingParams(max_completion_length=8)
NUMBERS = {"rewards": {"testing_rewards:letters": 1.0}, "grpo.num_generations": 2}


@pytest.fixture
def scripted(recipe):
    """`scripted(signals, rounds)`: a run of 4 prompts a step whose n-th drawn group has signal where `signals` says 1.

    A group with signal answers "ab" and "12", else twice the same; its first text starts with its number.
    """

    def make(signals: str, rounds: int) -> TrainingRun:
        options = {**NUMBERS, "grpo.dynamic_sampling_rounds": rounds}
        run = open_training(load_config(recipe(**options)), stage="grpo", resume=False)
        texts = [[f"{n} ab", "12" if signal == "1" else f"{n} ab"] for n, signal in enumerate(signals)]
        run.sampler = ScriptedSampler(texts, run.env.adapter)  # type: ignore[assignment]
        return run

    return make


def numbers(groups: Sequence[Group]) -> list[int]:
    """Which of the drawn groups these are."""
    return [int(group.rollouts[0].completion.text.split()[0]) for group in groups]


@pytest.mark.parametrize(
    ("rounds", "signals", "chosen", "drawn"),
    [
        pytest.param(1, "0110", [0, 1, 2, 3], 4, id="off: one round, whatever it brings"),
        pytest.param(3, "1111", [0, 1, 2, 3], 4, id="the first round is enough"),
        pytest.param(3, "0110" + "1011", [1, 2, 4, 6], 8, id="the second fills up, and the step takes the first four"),
        pytest.param(3, "0000" + "0000" + "1111", [8, 9, 10, 11], 12, id="the third brings all"),
        pytest.param(3, "0001" + "0000" + "0100", [0, 1, 3, 9], 12, id="bounded: filled up with groups without signal"),
        pytest.param(2, "0000" + "0000", [0, 1, 2, 3], 8, id="nothing has signal: the first four"),
    ],
)
def test_draws_until_enough_groups_have_signal(rounds, signals, chosen, drawn, scripted) -> None:
    run = scripted(signals, rounds)
    groups, spare, metrics, places = collect_groups(run, PARAMS, Phases())
    assert numbers(groups) == chosen
    assert places == [0, 1, 2, 3]
    assert sum(run.drawing.stream.drawn) == drawn
    assert numbers([spare]) == [0]
    found = metrics["groups/no_signal"]
    assert (found.total, found.count) == (signals[:drawn].count("0"), drawn)
    assert ("groups/drawn" in metrics) == (rounds > 1)
    if rounds > 1:
        assert metrics["groups/drawn"].total == drawn


@pytest.mark.parametrize(("reward", "counted"), [("math", True), ("exact_match", False)])
def test_ended_comparisons_are_a_metric_where_mathematics_is_judged(reward, counted, recipe, rec_files, tmp_path):
    """The reward of a file decides, not its task: here the task is vqa."""
    rows = [json.loads(line) for line in rec_files["train"].read_text(encoding="utf-8").splitlines()]
    rows = [{**row, "conversations": [row["conversations"][0], {"from": "gpt", "value": "2"}]} for row in rows]
    path = tmp_path / "numbers.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    train = [{"path": str(path), "image_root": str(rec_files["train"].parent), "task": "vqa", "reward": reward}]
    options = {**NUMBERS, "data.train": train, "rewards": {"accuracy": 1.0}}
    run = open_training(load_config(recipe(**options)), stage="grpo", resume=False)
    run.sampler = ScriptedSampler([["1", "2"]] * 4, run.env.adapter)  # type: ignore[assignment]
    _, _, metrics, _ = collect_groups(run, PARAMS, Phases())
    assert ("math/ended_comparisons" in metrics) == counted


@pytest.mark.parametrize("rounds", [1, 3], ids=["in one step", "drawn again by dynamic sampling"])
def test_a_record_that_comes_twice_is_answered_anew(rounds: int, recipe, rec_files, tmp_path) -> None:
    """Three records, eight prompts: each record comes at least twice, and no two completions are the same draw."""
    first = rec_files["train"].read_text(encoding="utf-8").splitlines()[:3]
    (tmp_path / "three.jsonl").write_text("\n".join(first), encoding="utf-8")
    source = {"path": str(tmp_path / "three.jsonl"), "image_root": str(rec_files["train"].parent)}
    options = {
        "data.train": [source],
        "training.prompts_per_step": 8,
        "grpo.dynamic_sampling_rounds": rounds,
        "rewards": {"format": 1.0},  # a random model never earns it: no group has signal, all rounds are drawn
    }
    run = open_training(load_config(recipe(**options)), stage="grpo", resume=False)
    seen: list[tuple[str, tuple[int, ...]]] = []
    sample = run.sampler.sample

    def spy(prompts, seeds_P_G, params):
        completions_P_G = sample(prompts, seeds_P_G, params)
        seen.extend((p.text, c.ids_T) for p, own in zip(prompts, completions_P_G, strict=True) for c in own)
        return completions_P_G

    run.sampler.sample = spy  # type: ignore[method-assign]
    collect_groups(run, PARAMS, Phases())
    assert len(seen) == 8 * 4 * rounds
    assert len({text for text, _ in seen}) == 3
    assert len(set(seen)) == len(seen)


def test_the_records_are_those_of_the_stream_in_its_order(scripted) -> None:
    run = scripted("0110" + "1011", 3)
    expected = [draw.read() for draw in run.drawing.stream.draw(8)]
    run.drawing.stream.drawn = [0]
    groups, *_ = collect_groups(run, PARAMS, Phases())
    assert [group.record for group in groups] == [expected[n] for n in (1, 2, 4, 6)]


@pytest.mark.parametrize(("frozen", "runs"), [(True, 1 + 0), (False, 1 + 2 + 1)], ids=["frozen", "training"])
def test_a_frozen_vision_part_runs_once_a_step(frozen: bool, runs: int, recipe, adapter) -> None:
    """Else once for sampling, twice for two iterations, and once for the reference: never once per completion."""
    options = {"model.freeze_vision_modules": frozen, "grpo.beta": 0.1, "grpo.num_iterations": 2}
    budget = {"training.max_tokens_per_micro_batch": 100_000}
    run = open_training(load_config(recipe(**options, **budget)), stage="grpo", resume=False)
    reference = Reference(run.config, adapter, run.learner)
    tower, calls = type(run.learner.model.model.visual), []

    def count(module: nn.Module, args: object) -> None:
        if isinstance(module, tower):
            calls.append(module)

    handle = register_module_forward_pre_hook(count)  # on all modules, the reference's too
    groups, spare, *_ = collect_groups(run, PARAMS, Phases())
    groups = assign_advantages(groups, run.config, run.learner)
    update_policy(groups, spare, run.learner, reference, Phases())
    handle.remove()
    assert len(calls) == runs


def test_resume_continues_where_the_stream_stood(recipe, tmp_path) -> None:
    """A reward in which most groups agree makes steps draw more than once."""
    options = {
        "rewards": {"testing_rewards:mostly_letters": 1.0},
        "grpo.num_generations": 2,
        "grpo.dynamic_sampling_rounds": 3,
        "training.max_steps": 4,
        "training.save_steps": 1,
        "training.save_total_limit": 4,
    }
    config = load_config(recipe(**options))
    train(config)
    folder = tmp_path / "run"
    whole = untimed(read_metrics(folder / "metrics.jsonl"))
    drawn = [int(row["groups/drawn"]) for row in whole]
    assert sum(drawn) > 4 * 4, f"steps drew {drawn}: no more than without dynamic sampling"
    for step in (2, 4):
        state = json.loads((folder / f"checkpoints/step-00000{step}/state/trainer.json").read_text())
        assert state["stream"]["drawn"] == [sum(drawn[:step])]
    rollouts = read_rollouts(rollouts_path(folder, 4))
    for step in (3, 4):
        shutil.rmtree(folder / f"checkpoints/step-00000{step}")
    train(config, resume=True)
    assert untimed(read_metrics(folder / "metrics.jsonl")) == whole
    assert read_rollouts(rollouts_path(folder, 4)) == rollouts


def untimed(metrics: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if not k.startswith(("time/", "tokens_per_s/"))} for row in metrics]
