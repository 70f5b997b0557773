"""Layout packed against rows, whole models: values, entropies and the gradients of all parameters, in float64.

`test_logprobs.py` holds both layouts against plain calls of the model; here are LoRA, checkpointing, cached features,
windows, grouped-query heads and bfloat16, what must not be packed, and controls that must differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Gemma2Config, Gemma3TextConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen3_5 import Qwen3_5TextConfig

from testing_policy import TEMPERATURE, TOLERANCE, Scored, completions, largest_difference, score
from vlm_r1.config.schema import LoraSection, ModelSection
from vlm_r1.errors import ConfigError
from vlm_r1.models import Adapter, load_model
from vlm_r1.policy.attention import PackedGroup, PackedLayout
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.policy.packed import Layout, choose_layout, packing_obstacle


@pytest.fixture
def batch(adapter, prompts) -> CompletionBatch:
    """Groups of all kinds, ragged in everything."""
    kinds, lengths = ["wide", "none", "several", "one"], [[3, 12], [5], [7, 2, 2], [1, 30]]
    return CompletionBatch(
        [prompts[kind] for kind in kinds], [completions(adapter, own, seed) for seed, own in enumerate(lengths)]
    )


@pytest.fixture
def load(tiny_checkpoint, adapter) -> Callable[..., Any]:
    def make(**options: Any) -> Any:
        return load_model(ModelSection(path=str(tiny_checkpoint), **{"dtype": "float64", **options}), adapter)

    return make


def built(adapter: Adapter, **text_options: Any) -> Any:
    """The tiny architecture with other settings of its language model, and random weights, in float64."""
    tree = adapter.config.to_dict()
    tree["text_config"] = {**tree["text_config"], "layer_types": None, **text_options}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**tree)).double()


def assert_layouts_agree(model: Any, adapter: Adapter, batch: CompletionBatch) -> None:
    policy = Policy(model, adapter, TEMPERATURE)
    assert max(largest_difference(score(policy, batch), score(policy, batch, "rows"))) < TOLERANCE


def randomise_adapters(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.copy_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))


# Equality -------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*:UserWarning")
@pytest.mark.parametrize(
    ("targets", "trains"),
    [
        pytest.param(None, "visual.blocks.0.attn.qkv.lora_B", id="all"),
        pytest.param(["q_proj", "lm_head"], "lm_head.lora_B", id="the head too"),
    ],
)
def test_lora(targets: list[str] | None, trains: str, load, adapter, batch) -> None:
    model = load(lora=LoraSection(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=targets), freeze=[]).double()
    randomise_adapters(model)
    policy = Policy(model, adapter, TEMPERATURE)
    packed, rows = score(policy, batch), score(policy, batch, "rows")
    assert any(trains in name for name in packed.gradients)
    assert all("lora_" in name for name in packed.gradients)
    assert max(largest_difference(packed, rows)) < TOLERANCE
    with model.disable_adapter(), torch.no_grad():
        assert float((policy(batch).logprobs_NT - packed.logprobs_NT).abs().max()) > 0.01, "the adapters say something"


def test_gradient_checkpointing(load, adapter, batch) -> None:
    model = load(gradient_checkpointing=True).train()
    calls: list[int] = []
    model.model.language_model.layers[0].self_attn.register_forward_pre_hook(lambda *_: calls.append(1))
    score(Policy(model, adapter, TEMPERATURE), batch)
    assert len(calls) == 2, "the layer was computed again in the backward pass"
    assert_layouts_agree(model, adapter, batch)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
def test_cached_features_of_a_frozen_vision_part(checkpointing: bool, load, adapter, batch) -> None:
    model = load(freeze_vision_modules=True, gradient_checkpointing=checkpointing).train()
    runs: list[int] = []
    model.model.visual.register_forward_pre_hook(lambda *_: runs.append(1))
    policy = Policy(model, adapter, TEMPERATURE)
    expected = score(policy, batch)
    assert len(runs) == 1
    with torch.no_grad():
        features_P = adapter.image_features(model, batch.prompts)
    seen = [replace(prompt, features=own) for prompt, own in zip(batch.prompts, features_P, strict=True)]
    cached = batch._replace(prompts=seen)
    runs.clear()
    for layout in ("packed", "rows"):
        assert max(largest_difference(score(policy, cached, layout), expected)) < TOLERANCE
    assert not runs, "the vision tower ran again"
    mixed = batch._replace(prompts=[seen[0], *batch.prompts[1:]])
    assert max(largest_difference(score(policy, mixed), expected)) < TOLERANCE
    assert len(runs) == 1


def test_grouped_query_heads(adapter, batch) -> None:
    assert_layouts_agree(built(adapter, num_key_value_heads=1), adapter, batch)


@pytest.mark.parametrize("window", [3, 8, 20])
@pytest.mark.parametrize("full_layers", [0, 1])
def test_sliding_windows(window: int, full_layers: int, adapter, batch) -> None:
    options = {"use_sliding_window": True, "sliding_window": window, "max_window_layers": full_layers}
    model = built(adapter, **options)
    kinds = model.config.text_config.layer_types
    assert kinds == ["full_attention"] * full_layers + ["sliding_attention"] * (3 - full_layers)
    assert_layouts_agree(model, adapter, batch)
    with torch.no_grad():
        windowed, full = (Policy(m, adapter, TEMPERATURE)(batch).logprobs_NT for m in (model, built(adapter)))
    assert float((windowed - full).abs().max()) > 0.01, "the same weights without windows"


@pytest.mark.parametrize("window", [60, 4096])
def test_a_window_longer_than_every_row(window: int, adapter, batch) -> None:
    options = {"use_sliding_window": True, "sliding_window": window, "max_window_layers": 1}
    assert_layouts_agree(built(adapter, **options), adapter, batch)


BF16_TOLERANCE = (0.02, 0.005, 0.06)
"""Root mean squares of the errors of log-probabilities, entropies and gradients; measured 0.003, 0.0002 and 0.012."""


def errors(found: Scored, exact: Scored) -> tuple[float, float, float]:
    """Root mean squares of log-probabilities and entropies, and the norm of the gradients' error over theirs.

    A largest value over these few numbers depends on which kernels a processor has; these hardly do.
    """
    pairs = [(found.gradients[name].double(), gradient) for name, gradient in exact.gradients.items()]
    off = sum(float((mine - gradient).square().sum()) for mine, gradient in pairs)
    norm = sum(float(gradient.square().sum()) for _, gradient in pairs)
    means = (
        float((getattr(found, name) - getattr(exact, name)).square().mean()) ** 0.5
        for name in ("logprobs_NT", "entropies_NT")
    )
    return (*means, (off / norm) ** 0.5)


@pytest.mark.parametrize("autocast", [False, True], ids=["bf16 weights", "bf16 autocast"])
def test_bfloat16_to_a_stated_tolerance(autocast: bool, load, adapter, batch) -> None:
    """Packed is about as far from float64 as rows are, in the same precision on the same processor."""
    model = load(dtype="float32" if autocast else "bfloat16")
    exact = score(Policy(deepcopy(model).double(), adapter, TEMPERATURE), batch)
    policy = Policy(model, adapter, TEMPERATURE)

    def measured(seen: CompletionBatch, layout: Layout) -> tuple[float, float, float]:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = score(policy, seen, layout)
        assert found.logprobs_NT.dtype == torch.float32
        return errors(found, exact)

    rows, packed = measured(batch, "rows"), measured(batch, "packed")
    assert all(found < allowed for found, allowed in zip(rows, BF16_TOLERANCE, strict=True)), rows
    assert all(mine < 2 * theirs for mine, theirs in zip(packed, rows, strict=True)), (packed, rows)  # measured 0.8–1.3
    with fewer_bits(model):
        coarse = measured(batch, "packed")
    assert min(mine / theirs for mine, theirs in zip(coarse, rows, strict=True)) > 2, "a control: 4 bits instead of 8"
    wrong = measured(siblings_positions_run_on(model, batch), "packed")
    assert min(mine / theirs for mine, theirs in zip(wrong, rows, strict=True)) > 2, "a control: positions of a sibling"


@contextmanager
def fewer_bits(model: Any) -> Iterator[None]:
    """What attention of the language model gives, rounded to the 4 significant bits of float8_e4m3fn."""

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        rounded = output[0] + (output[0].float().to(torch.float8_e4m3fn).to(output[0].dtype) - output[0]).detach()
        return (rounded, *output[1:])

    handles = [layer.self_attn.register_forward_hook(hook) for layer in model.model.language_model.layers]
    yield
    for handle in handles:
        handle.remove()


# Controls -------------------------------------------------------------------------------------------------------------


def with_layout(model: Any, change: Callable[[PackedLayout], PackedLayout]) -> None:
    """From now on every attention layer works by another layout than its row has."""

    def hook(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if kwargs.get("shared_prefix") is not None:
            kwargs = {**kwargs, "shared_prefix": change(kwargs["shared_prefix"])}
        return args, kwargs

    for layer in model.model.language_model.layers:
        layer.self_attn.register_forward_pre_hook(hook, with_kwargs=True)


def with_positions(model: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """From now on the language model gets other positions; those of rows stay."""

    def hook(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if kwargs.get("shared_prefix") is not None:
            kwargs = {**kwargs, "position_ids": change(kwargs["position_ids"])}
        return args, kwargs

    model.model.language_model.register_forward_pre_hook(hook, with_kwargs=True)


def siblings_visible(model: Any, batch: CompletionBatch) -> CompletionBatch:
    def change(layout: PackedLayout) -> PackedLayout:
        merged = (PackedGroup(group.prompt, (sum(group.completions),)) for group in layout.groups)
        return PackedLayout(tuple(merged), layout.served)

    with_layout(model, change)
    return batch


def groups_visible(model: Any, batch: CompletionBatch) -> CompletionBatch:
    def change(layout: PackedLayout) -> PackedLayout:
        (prompt, *rest) = layout.blocks
        return PackedLayout((PackedGroup(prompt, tuple(rest)),), layout.served)

    with_layout(model, change)
    return batch


def plain_causal_row(model: Any, batch: CompletionBatch) -> CompletionBatch:
    def change(layout: PackedLayout) -> PackedLayout:
        return PackedLayout((PackedGroup(1, (layout.length - 1,)),), layout.served)

    with_layout(model, change)
    return batch


def completions_shifted_by_one(model: Any, batch: CompletionBatch) -> CompletionBatch:
    prompt = len(batch.prompts[0].ids_L)
    with_positions(model, lambda ids: torch.cat([ids[..., :prompt], ids[..., prompt:] + 1], -1))
    return batch


def positions_of_one_axis(model: Any, batch: CompletionBatch) -> CompletionBatch:
    with_positions(model, lambda ids: ids.amax(0, keepdim=True).expand_as(ids))
    return batch


def siblings_positions_run_on(model: Any, batch: CompletionBatch) -> CompletionBatch:
    first = int(len(batch.prompts[0].ids_L) + len(batch.ids_P_G_T[0][0]))
    steps = len(batch.ids_P_G_T[0][0])
    with_positions(model, lambda ids: torch.cat([ids[..., :first], ids[..., first:] + steps], -1))
    return batch


def images_swapped(model: Any, batch: CompletionBatch) -> CompletionBatch:
    a, b = batch.prompts
    assert a.ids_L == b.ids_L
    return batch._replace(prompts=[replace(a, vision=b.vision), replace(b, vision=a.vision)])


CONTROLS = [
    siblings_visible,
    groups_visible,
    plain_causal_row,
    completions_shifted_by_one,
    siblings_positions_run_on,
    positions_of_one_axis,
    images_swapped,
]


@pytest.mark.parametrize("control", CONTROLS)
def test_controls_that_must_differ(control, model64, adapter, prompts) -> None:
    batch = CompletionBatch([prompts["one"], prompts["twin"]], [completions(adapter, [6, 9], seed) for seed in (0, 1)])
    policy = Policy(model64, adapter, TEMPERATURE)
    right = score(policy, batch, "rows")
    assert max(largest_difference(score(policy, batch), right)) < TOLERANCE
    logprobs, _, gradients = largest_difference(score(policy, control(model64, batch)), right)
    assert logprobs > 500 * TOLERANCE
    assert gradients > 500 * TOLERANCE


# What must not be packed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text_config", "reason"),
    [
        pytest.param(Qwen2_5_VLConfig().get_text_config(), None, id="Qwen2.5-VL"),
        pytest.param(Gemma3TextConfig(), None, id="Gemma 3 text, windows"),
        pytest.param(Qwen3_5TextConfig(), "linear_attention", id="Qwen3.5"),
        pytest.param(Gemma3TextConfig(use_bidirectional_attention=True), "see both ways", id="Gemma 3, both ways"),
        pytest.param(Gemma2Config(), "caps attention scores", id="Gemma 2"),
        pytest.param(Qwen2_5_VLConfig(text_config={"attention_dropout": 0.1}).text_config, "dropout", id="dropout"),
    ],
)
def test_the_layout_follows_from_the_architecture(text_config, reason: str | None) -> None:
    assert choose_layout("rows", text_config)[0] == "rows"
    layout, line = choose_layout("auto", text_config)
    if reason is None:
        assert packing_obstacle(text_config) is None
        assert (layout, choose_layout("packed", text_config)[0]) == ("packed", "packed")
        return
    assert layout == "rows"
    assert reason in line
    with pytest.raises(ConfigError, match=f"packed cannot be exact for this model: .*{reason}"):
        choose_layout("packed", text_config)


def test_a_layer_that_does_not_get_the_layout_is_an_error(model64, adapter, batch) -> None:
    policy = Policy(model64, adapter)
    model64.set_attn_implementation({"text_config": "sdpa"})  # another attention than the policy switched to
    with pytest.raises(RuntimeError, match=r"packed attention reached layers \[\] of 3"):
        policy(batch)


def test_the_vision_part_and_the_saved_config_stay_stock(model64, adapter, tmp_path) -> None:
    Policy(model64, adapter)
    assert model64.config.vision_config._attn_implementation == "sdpa"
    model64.save_pretrained(tmp_path)
    assert "shared_prefix" not in (tmp_path / "config.json").read_text()
