"""Planned bytes are those of the same pass with data, on all layers, counted tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from testing_families import FAMILIES, family_prompts
from vlm_r1.config.model import LoraSection, ModelSection
from vlm_r1.config.schema import TrainingSection
from vlm_r1.models import Adapter, load_adapter, load_model
from vlm_r1.models.precision import frozen_matrices
from vlm_r1.planning.meter import Meter
from vlm_r1.planning.passes import optimizer_step, policy_pass, sampling_pass
from vlm_r1.planning.shapes import GPU, Shapes, load_shapes
from vlm_r1.policy.build import choose_setup
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.policy.packed import Layout, choose_layout
from vlm_r1.sampling import SamplingParams, decoding
from vlm_r1.sampling.hf import HFSampler
from vlm_r1.testing import TinySize, write_tiny
from vlm_r1.training.optimizer import make_optimizers

DEEP = TinySize(num_key_value_heads=2, num_hidden_layers=6, vision_depth=5)
"""More layers than stand for all."""

PASS_TOLERANCE = 1e-3
"""What a layer hands to the next is not always kept as often as the layer between stands for (measured: 9e-4)."""

SAMPLING_TOLERANCE = 0.05
"""The cache of a full answer is extrapolated from two tokens (measured: 0.042)."""


class Small(NamedTuple):
    """A checkpoint with its adapter, and groups of completions of one prompt with two images."""

    folder: Path
    adapter: Adapter
    batch: CompletionBatch

    def section(self, **options: Any) -> ModelSection:
        return ModelSection(path=str(self.folder), dtype="float32", **options)

    def shapes(self, section: ModelSection, autocast: bool = False) -> Shapes:
        setup = choose_setup(section, self.adapter, GPU, mixed_precision="bf16" if autocast else "no")
        return load_shapes(section, self.adapter, setup)

    @property
    def layout(self) -> Layout:
        return choose_layout("auto", self.adapter.config.get_text_config(), self.adapter.why_not_shared)[0]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Small]:
    folder, known = tmp_path_factory.mktemp("deep"), {}

    def make(family: str) -> Small:
        if family not in known:
            write_tiny(family, folder / family, ["the small red circle and the large blue square"] * 4, size=DEEP)
            adapter = load_adapter(folder / family)
            prompt = family_prompts(adapter)["several"]
            known[family] = Small(folder / family, adapter, CompletionBatch([prompt] * 2, [[[0] * 30] * 2] * 2))
        return known[family]

    return make


def counted(model: Any, run: Callable[[], object]) -> int:
    """Bytes at the peak of a real pass, besides what exists before."""
    meter = Meter()
    for tensor in (*model.parameters(), *model.buffers()):
        meter.hold(tensor)
        if tensor.grad is not None:
            meter.hold(tensor.grad)
    meter.restart()
    start = meter.live
    with meter:
        run()
    return meter.peak - start


def real_pass(small: Small, section: ModelSection, autocast: bool, entropy_gradient: bool = False) -> int:
    model = load_model(section, small.adapter)
    if autocast:  # what tests have is random; published weights are such that this loses nothing
        for parameter in frozen_matrices(model):
            parameter.data = parameter.data.bfloat16()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    policy = Policy(model, small.adapter, layout=small.layout).train()

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast, cache_enabled=False):
            seen = small.adapter.with_features(model, small.batch.prompts)
            scored = policy(small.batch._replace(prompts=seen), entropy_gradient=entropy_gradient)
        (scored.logprobs_NT + scored.entropies_NT if entropy_gradient else scored.logprobs_NT).sum().backward()

    return counted(model, run)


def real_sampling(small: Small, section: ModelSection, params: SamplingParams) -> int:
    model, prompts = load_model(section, small.adapter), small.batch.prompts
    sampler = HFSampler(model, small.adapter)

    def run() -> None:
        sampler.sample(small.adapter.with_features(model, prompts), [[1, 2], [3, 4]], params)

    model.generation_config.eos_token_id = -1  # all completions are as long as they may be
    return counted(model, run)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pass_of_every_family(family: str, small) -> None:
    one = small(family)
    section = one.section(gradient_checkpointing=True)
    planned = policy_pass(one.shapes(section, True), one.batch).total
    assert planned == pytest.approx(real_pass(one, section, autocast=True), rel=PASS_TOLERANCE)


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="everything kept"),
        pytest.param({"freeze_vision_modules": True}, id="vision frozen"),
        pytest.param({"lora": LoraSection(r=4, lora_dropout=0.05)}, id="lora"),
        pytest.param({"lora": LoraSection(r=4), "gradient_checkpointing": True}, id="lora, checkpointed"),
    ],
)
def test_a_pass_of_every_kind(options: dict[str, Any], autocast: bool, small) -> None:
    one = small("qwen2_5_vl")
    section = one.section(**options)
    planned = policy_pass(one.shapes(section, autocast), one.batch).total
    assert planned == pytest.approx(real_pass(one, section, autocast), rel=PASS_TOLERANCE)


def test_a_pass_with_an_entropy_bonus(small) -> None:
    one = small("qwen2_5_vl")
    section = one.section()
    planned = policy_pass(one.shapes(section), one.batch, entropy_gradient=True).total
    real = real_pass(one, section, autocast=False, entropy_gradient=True)
    assert planned == pytest.approx(real, rel=PASS_TOLERANCE)


def test_layers_that_stand_for_others_are_needed(small) -> None:
    """Control: the layers that stay, each counted once, would take a fifth less."""
    one = small("qwen2_5_vl")
    section = one.section()
    shapes = one.shapes(section)
    once = replace(shapes, layers=[layer._replace(times=1) for layer in shapes.layers])
    planned = policy_pass(once, one.batch).total
    assert planned < 0.8 * real_pass(one, section, autocast=False)


SHORT, LONG = SamplingParams(20), SamplingParams(70, top_p=0.9)
"""Within the cache's first room, and in its third."""


@pytest.mark.parametrize(
    ("family", "params"),
    [
        pytest.param("qwen2_5_vl", SHORT, id="one shared copy of the prompts, short"),
        pytest.param("qwen2_5_vl", LONG, id="one shared copy of the prompts, long"),
        pytest.param("gemma3", LONG, id="windows: a cache for each completion"),
        pytest.param("qwen3_5", LONG, id="linear attention"),
    ],
)
def test_sampling(family: str, params: SamplingParams, small) -> None:
    one = small(family)
    section = one.section()
    peak = sampling_pass(one.shapes(section), one.batch.prompts, 2, params)
    assert peak.total == pytest.approx(real_sampling(one, section, params), rel=SAMPLING_TOLERANCE)


def test_keys_and_values_by_hand(small) -> None:
    """Two prompts once, four completions with room for 128 tokens; 6 layers, 2 heads of 16 numbers, float32, twice."""
    one = small("qwen2_5_vl")
    peak = sampling_pass(one.shapes(one.section()), one.batch.prompts, 2, LONG)
    token = 2 * 6 * 2 * 16 * 4
    assert peak.cache == token * (2 * len(one.batch.prompts[0].ids_L) + 4 * 128)


def test_the_plan_follows_the_cache(small, monkeypatch) -> None:
    """Where the sampler's cache begins with more room, the plan has more of it, without a word in planning/."""
    one = small("qwen2_5_vl")
    before = sampling_pass(one.shapes(one.section()), one.batch.prompts, 2, LONG)
    monkeypatch.setattr(decoding, "FIRST_ROOM", 256)
    after = sampling_pass(one.shapes(one.section()), one.batch.prompts, 2, LONG)
    assert after.cache - before.cache == 2 * 6 * 2 * 16 * 4 * 4 * (256 - 128)


@pytest.mark.parametrize("optim", ["adamw", "adamw_torch", "muon", "adafactor", "sgd"])
def test_an_optimizer_s_state(optim: Any, small) -> None:
    one, training = small("qwen2_5_vl"), TrainingSection(optim=optim)
    section = one.section(freeze_vision_modules=True)
    model = load_model(section, one.adapter)
    optimizers = make_optimizers(model, training, one.adapter)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    for optimizer in optimizers:
        optimizer.step()
    states = [value for o in optimizers for own in o.state.values() for value in own.values()]
    real = sum(value.nbytes for value in states if isinstance(value, torch.Tensor))
    needs = optimizer_step(one.shapes(section), training)
    assert needs.state == real
    trainable = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    is_adamw = optim.startswith("adamw")
    assert needs.state == pytest.approx(2 * trainable, rel=1e-3) if is_adamw else needs.state < 2 * trainable


def test_an_optimizer_from_outside_is_assumed_to_have_two_moments(small) -> None:
    """It may look at numbers, as Adafactor does, and there are none."""
    one = small("qwen2_5_vl")
    shapes = one.shapes(one.section())
    needs = optimizer_step(shapes, TrainingSection(optim="torch.optim:Adafactor"))
    assert needs.state == sum(2 * p.nbytes * times for _, p, times in shapes.parameters(trainable=True))
