"""Each trust check passes on a good run, and fails with its explanation when the thing is really broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from testing_runs import sample_step
from vlm_r1.config import load_config
from vlm_r1.config.schema import ModelSection
from vlm_r1.errors import ModelError
from vlm_r1.grpo.reference import Reference
from vlm_r1.grpo.trainer import train
from vlm_r1.models import load_model
from vlm_r1.policy.attention import PackedGroup, PackedLayout
from vlm_r1.policy.logprobs import CompletionBatch
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.sampling import SamplingParams
from vlm_r1.sampling.hf import HFSampler
from vlm_r1.supervised.trainer import train_sft
from vlm_r1.training.run import TrainingRun, open_training
from vlm_r1.training.trust import check_gold, check_sampled, is_due
from vlm_r1.types import Group, Segment

PARAMS = SamplingParams(max_completion_length=8)


@pytest.fixture
def opened(recipe) -> Callable[..., TrainingRun]:
    def make(**options: Any) -> TrainingRun:
        return open_training(load_config(recipe(**options)), stage="grpo", resume=False)

    return make


def sample(run: TrainingRun, params: SamplingParams = PARAMS) -> list[Group]:
    return sample_step(run, params)


def fails(groups: Sequence[Group], run: TrainingRun, explanation: str, params: SamplingParams = PARAMS) -> None:
    with pytest.raises(ModelError, match=rf"trust check failed on .*train\.jsonl:\d+: .*{explanation}"):
        check_sampled(groups, run.learner, run.env, run.sampler, params)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="float32"),
        pytest.param({"model.dtype": "float64"}, id="float64"),
        pytest.param({"model.dtype": "bfloat16", "model.lora": {"r": 4}}, id="bfloat16"),
        pytest.param({"training.mixed_precision": "bf16"}, id="autocast"),
        pytest.param({"model.freeze_vision_modules": True}, id="frozen vision, cached features"),
        pytest.param({"model.lora": {"r": 4, "lora_dropout": 0.5}}, id="LoRA with dropout"),
        pytest.param({"training.layout": "rows"}, id="rows"),
    ],
)
def test_a_good_run_passes(options: dict, opened) -> None:
    run = opened(**options)
    run.learner.begin_step()
    with torch.no_grad():
        for name, parameter in run.learner.model.named_parameters():
            if "lora_B" in name:  # new ones are 0, and dropout would not show
                parameter.normal_(std=0.1)
    found = check_sampled(sample(run), run.learner, run.env, run.sampler, PARAMS)
    assert f"{options.get('training.layout', 'packed')} = transformers in" in found
    assert "sampler = policy" in found
    assert "blank images move log-probabilities" in found
    assert run.learner.policy.training, "the check leaves the policy as it was"


def test_the_same_for_gold_answers(opened, adapter) -> None:
    run = opened()
    _, (record, *_) = run.next_records()
    encoded = run.env.encode(record)
    gold = run.env.gold_ids(record, encoded, adapter.tokenizer.eos_token_id)
    found = check_gold([record], CompletionBatch([encoded], [[gold]]), run.learner, run.env)
    assert "packed = transformers in float32" in found
    assert "sampler" not in found


# (a) packed is not rows


def test_siblings_that_see_each_other(opened) -> None:
    run = opened()
    groups = sample(run)

    def merge(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        layout = kwargs.get("shared_prefix")
        if isinstance(layout, PackedLayout):
            merged = tuple(PackedGroup(group.prompt, (sum(group.completions),)) for group in layout.groups)
            kwargs = {**kwargs, "shared_prefix": PackedLayout(merged, layout.served)}
        return args, kwargs

    for layer in run.learner.model.model.language_model.layers:
        layer.self_attn.register_forward_pre_hook(merge, with_kwargs=True)
    fails(groups, run, "layout packed differ from those of plain rows.*training.layout=rows")


# (b) the sampler is not the policy


def test_a_sampler_at_another_temperature(opened) -> None:
    run = opened()
    fails(sample(run, replace(PARAMS, temperature=1.3)), run, "the sampler's log-probabilities differ")


def test_a_sampler_with_other_weights(opened) -> None:
    run = opened()
    groups = sample(run)
    with torch.no_grad():
        run.learner.model.model.language_model.layers[1].mlp.down_proj.weight.mul_(1.2)
    fails(groups, run, "the sampler's log-probabilities differ")


@pytest.mark.parametrize("filtered", [{"top_p": 0.8}, {"top_k": 20}, {"min_p": 0.3}], ids=str)
def test_a_filter_is_no_disagreement(filtered: dict, opened) -> None:
    run = opened()
    params = replace(PARAMS, **filtered)
    groups = sample(run, params)
    check_sampled(groups, run.learner, run.env, run.sampler, params)
    fails(groups, run, "the sampler's log-probabilities differ", PARAMS)  # the filter did make them likelier


def test_a_filter_does_not_hide_other_weights(opened, adapter, tiny_checkpoint: Path) -> None:
    run, params = opened(), replace(PARAMS, top_k=20)
    model = load_model(ModelSection(path=str(tiny_checkpoint)), adapter)
    check_sampled(sample(run, params), run.learner, run.env, HFSampler(model, adapter), params)
    with torch.no_grad():
        model.model.language_model.layers[1].mlp.down_proj.weight.mul_(1.2)
    with pytest.raises(ModelError, match="the sampler's log-probabilities differ"):
        check_sampled(sample(run, params), run.learner, run.env, HFSampler(model, adapter), params)


@pytest.mark.parametrize("layout", ["packed", "rows"])
def test_a_reference_that_is_not_the_start_of_the_policy(layout: str, recipe, tmp_path, monkeypatch) -> None:
    options = {"grpo.beta": 0.04, "training.layout": layout, "training.max_steps": 1}
    train(load_config(recipe(**options)))
    init = Reference.__init__

    def warmer(self: Reference, *args: Any) -> None:
        init(self, *args)
        self.frozen.temperature = 1.1  # type: ignore[union-attr]

    def other_weights(self: Reference, *args: Any) -> None:
        init(self, *args)
        with torch.no_grad():
            self.frozen.model.get_output_embeddings().weight.mul_(1.02)  # type: ignore[union-attr]

    for bug in (warmer, other_weights):
        monkeypatch.setattr(Reference, "__init__", bug)
        with pytest.raises(ModelError, match="the reference's log-probabilities differ"):
            train(load_config(recipe(**options, output_dir=str(tmp_path / bug.__name__))))


def test_a_sampler_that_was_not_given_the_new_weights(opened, monkeypatch) -> None:
    """It says itself which weights it has; whether that is true is found by its log-probabilities."""
    run = opened()
    groups = sample(run)
    run.learner.step = 3
    fails(groups, run, "sampled with the weights after step 0, but the policy has taken 3")


# (c) the images are not seen


@pytest.fixture
def blind(tiny_checkpoint: Path, adapter, tmp_path: Path) -> Path:
    """A checkpoint whose projector writes zeros."""
    model = load_model(ModelSection(path=str(tiny_checkpoint)), adapter)
    with torch.no_grad():
        for parameter in model.model.visual.merger.parameters():
            parameter.zero_()
    model.save_pretrained(tmp_path / "blind")
    adapter.save(tmp_path / "blind")
    return tmp_path / "blind"


@pytest.mark.parametrize("trainer", [train, train_sft])
def test_a_projector_of_zeros_stops_the_run_unless_checks_are_off(trainer, blind, recipe, tmp_path) -> None:
    options = {"model.path": str(blind), "training.max_steps": 1}
    with pytest.raises(ModelError, match="the model does not see them"):
        trainer(load_config(recipe(**options)))
    assert not (tmp_path / "run" / "model").exists()
    unchecked = {**options, "training.trust_checks": False, "output_dir": str(tmp_path / "unchecked")}
    trainer(load_config(recipe(**unchecked)))
    assert len(read_metrics(tmp_path / "unchecked" / "metrics.jsonl")) == 1


def test_a_blind_model_with_cached_features(blind, opened) -> None:
    run = opened(**{"model.path": str(blind), "model.freeze_vision_modules": True})
    fails(sample(run), run, "the model does not see them")


# (d) placeholders


def with_token(group: Group, token: int) -> Group:
    """The first completion ends in this token instead of its own."""
    first, *others = group.rollouts
    ids_T = (*first.completion.ids_T[:-1], token)
    segment = Segment(ids_T, first.completion.logprobs_T)
    return replace(group, rollouts=(replace(first, completion=replace(first.completion, segments=(segment,))), *others))


@pytest.mark.parametrize("name", ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"])
def test_a_sampled_placeholder(name: str, opened, adapter) -> None:
    run = opened()
    token = adapter.tokenizer.convert_tokens_to_ids(name)
    group, *others = sample(run)
    fails([with_token(group, token), *others], run, rf"placeholder tokens \[{token}\] were sampled")


def test_every_group_may_be_the_first_with_images(opened, prompts) -> None:
    """A prompt without images says nothing about them, so a later group is taken."""
    run = opened()
    groups = sample(run)
    text_only = replace(groups[0], encoded=prompts["none"])
    assert "blank images" in check_sampled([text_only, *groups[1:]], run.learner, run.env, run.sampler, PARAMS)


def test_when_checks_are_due(recipe) -> None:
    def due(first: int, **options: Any) -> list[int]:
        section = load_config(recipe(**{f"training.{name}": value for name, value in options.items()})).training
        return [step for step in range(first, 13) if is_due(step, step == first, section)]

    assert due(1) == [1, 2]
    assert due(1, trust_check_steps=5) == [1, 2, 5, 10]
    assert due(7, trust_check_steps=5) == [7, 10], "a resumed run begins with them"
    assert due(1, trust_check_steps=0) == [1, 2]
    assert due(1, trust_checks=False) == []
