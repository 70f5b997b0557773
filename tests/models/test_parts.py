"""What trains: the parts of every family, freezing them, and which layers LoRA adapts in which way."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import torch

from testing_families import FAMILIES, family_prompts
from testing_policy import completions
from vlm_r1.config.schema import LoraSection, ModelSection
from vlm_r1.errors import ConfigError, ModelError
from vlm_r1.models import load_adapter, load_model
from vlm_r1.models.loading import empty_model
from vlm_r1.models.parts import (
    INITIAL_WEIGHTS,
    PARTS,
    PEFT_OPTIONS,
    PartSize,
    check_rates,
    lora_config,
    lora_targets,
    size_by_part,
)
from vlm_r1.policy.logprobs import CompletionBatch, Policy

Load = Callable[..., Any]


@pytest.fixture
def load(tiny_checkpoint, adapter) -> Load:
    """`load(freeze=["vision"])`: the tiny Qwen2.5-VL by these options of the section `model`."""
    return lambda **options: load_model(ModelSection(path=str(tiny_checkpoint), **options), adapter)


def trained_parts(model: Any, adapter: Any) -> set[str]:
    return {size.part for size in size_by_part(model, adapter) if size.trainable}


# Parts ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "part"),
    [
        pytest.param("model.visual.blocks.0.attn.qkv.weight", "vision", id="tower"),
        pytest.param("model.visual.merger.mlp.0.weight", "projector", id="inside the tower's module"),
        pytest.param("model.language_model.layers.0.mlp.up_proj.weight", "language", id="language model"),
        pytest.param("lm_head.weight", "language", id="head"),
        pytest.param("model.visualizer.weight", "language", id="a name that only begins alike"),
        pytest.param("base_model.model.model.visual.merger.mlp.0.lora_A.default.weight", "projector", id="adapter"),
    ],
)
def test_names_tell_the_part(name: str, part: str, adapter) -> None:
    assert adapter.part_of(name) == part


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_all_parts(family: str, family_checkpoint, family_adapter) -> None:
    adapter, section = family_adapter(family), ModelSection(path=str(family_checkpoint(family)))
    model = empty_model(section, adapter)
    sizes = size_by_part(model, adapter)
    assert [size.part for size in sizes] == list(PARTS)
    assert sum(size.parameters for size in sizes) == model.num_parameters()
    assert all(size.trainable == size.parameters for size in sizes)
    frozen = empty_model(section.model_copy(update={"freeze": ["vision", "projector"]}), adapter)
    trains = {name for name, p in frozen.named_parameters() if p.requires_grad}
    assert adapter.sees_with_frozen_parts(frozen)
    assert not adapter.sees_with_frozen_parts(model)
    embeddings = next(name for name, p in frozen.named_parameters() if p is frozen.get_input_embeddings().weight)
    assert embeddings in trains


@pytest.mark.parametrize(
    ("options", "trains"),
    [
        pytest.param({}, set(PARTS), id="all"),
        pytest.param({"freeze": []}, set(PARTS), id="all, said"),
        pytest.param({"freeze": ["vision"]}, {"projector", "language"}, id="projector and language"),
        pytest.param({"freeze": ["vision", "language"]}, {"projector"}, id="projector alone"),
        pytest.param({"freeze_vision_modules": True}, {"language"}, id="as TRL says it"),
        pytest.param({"lora": {"r": 2}}, {"language"}, id="lora"),
        pytest.param({"lora": {"r": 2}, "freeze": []}, set(PARTS), id="lora everywhere"),
        pytest.param({"lora": {"r": 2}, "freeze": ["language"]}, {"vision", "projector"}, id="lora on what sees"),
        pytest.param(
            {"lora": {"r": 2, "peft": {"modules_to_save": ["merger"]}}}, {"projector", "language"}, id="lora and whole"
        ),
    ],
)
def test_what_is_frozen_does_not_train(options: dict[str, Any], trains: set[str], load: Load, adapter) -> None:
    assert trained_parts(load(**options), adapter) == trains


def test_sizes_are_counted(load: Load, adapter) -> None:
    """Rank 2 on a layer from m to n adds 2·(m + n). Language, 3 layers, hidden 64, 2 of 4 heads of keys and values."""
    attention = 2 * ((64 + 64) + 2 * (64 + 32) + (64 + 64))
    mlp = 2 * 3 * (64 + 192)
    before, after = size_by_part(load(), adapter), size_by_part(load(lora={"r": 2}), adapter)
    assert after[:2] == [PartSize(size.part, size.parameters, 0) for size in before[:2]]
    adapters = 3 * (attention + mlp)
    assert after[2] == PartSize("language", before[2].parameters + adapters, adapters)


def test_nothing_to_train_is_an_error(model64, adapter) -> None:
    model64.requires_grad_(False)
    with pytest.raises(ModelError, match="no parameter would train: unfreeze a part"):
        size_by_part(model64, adapter)


def test_a_part_that_the_family_does_not_name(tiny_checkpoint) -> None:
    nameless = load_adapter(tiny_checkpoint)
    nameless.projector_modules = ()
    with pytest.raises(ConfigError, match=r"model\.freeze: projector has no effect"):
        load_model(ModelSection(path=str(tiny_checkpoint), freeze=["projector"]), nameless)


def test_rates_are_for_parts_that_train() -> None:
    sizes = [PartSize("vision", 10, 0), PartSize("language", 10, 10)]
    check_rates({"language": 1e-5}, sizes)
    for part in ("vision", "projector"):
        with pytest.raises(ConfigError, match=rf"training\.learning_rates\.{part} has no effect"):
            check_rates({part: 1e-5}, sizes)


# LoRA -----------------------------------------------------------------------------------------------------------------


def test_targets_leave_head_and_vision_out(model64, adapter) -> None:
    def targets(**options: Any) -> list[str]:
        lora = LoraSection(r=2, target_modules=options.pop("target_modules", None))
        return lora_targets(model64, ModelSection(path="x", lora=lora, **options), adapter)

    default, everywhere = targets(), targets(freeze=[])
    assert len(default) == 3 * 7
    assert {adapter.part_of(name) for name in default} == {"language"}
    assert set(default) < set(everywhere)
    assert {adapter.part_of(name) for name in everywhere} == set(PARTS)
    assert "lm_head" not in everywhere
    assert targets(target_modules=["lm_head"]) == ["lm_head"]
    assert len(targets(target_modules=["q_proj", "layers.0.mlp.up_proj"])) == 3 + 1
    assert len(targets(target_modules=["qkv"], freeze=["language"])) == 2


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        pytest.param({"target_modules": ["q_prj"]}, r'"q_prj" is .* \(language\)\. Did you mean "q_proj"', id="typo"),
        pytest.param({"target_modules": ["qkv"]}, r"it is in vision: see model\.freeze", id="a frozen part's"),
        pytest.param({"target_modules": ["norm"]}, "no linear layer", id="not linear"),
        pytest.param({"peft": {"use_dorra": True}}, 'no option here. Did you mean "use_dora"', id="unknown option"),
        pytest.param({"peft": {"r": 3}}, r"r, lora_alpha, .* are options of model\.lora itself", id="its own"),
        pytest.param({"peft": {"bias": "all"}}, '"bias" is no option here', id="trained biases"),
        pytest.param({"peft": {"init_lora_weights": "pissa"}}, "not where training began", id="PiSSA"),
        pytest.param({"peft": {"init_lora_weights": False}}, "not where training began", id="random start"),
        pytest.param({"r": 3, "peft": {"init_lora_weights": "orthogonal"}}, "peft cannot: .*even", id="odd rank"),
        pytest.param({"peft": {"modules_to_save": ["mergr"]}}, '"mergr". Did you mean "merger"', id="no module"),
        pytest.param({"peft": {"target_parameters": ["experts.w"]}}, 'ends in "experts.w"', id="no parameter"),
    ],
)
def test_what_lora_cannot_do_is_an_error(lora: dict[str, Any], message: str, load: Load) -> None:
    with pytest.raises(ConfigError, match=message):
        load(lora=lora)


def test_options_are_pefts_own() -> None:
    from peft import LoraConfig

    assert set(PEFT_OPTIONS) <= set(LoraConfig.__dataclass_fields__)
    section = LoraSection(r=8, lora_alpha=12, lora_dropout=0.1, peft={"use_dora": True, "rank_pattern": {"q_proj": 2}})
    config = lora_config(section, ["q_proj"])
    assert (config.r, config.lora_alpha, config.lora_dropout) == (8, 12, 0.1)
    assert (config.use_dora, config.rank_pattern) == (True, {"q_proj": 2})
    assert lora_config(LoraSection(lora_alpha=0.5), ["q_proj"]).lora_alpha == 0.5


def test_dora_and_rslora_reach_the_layers(load: Load) -> None:
    model = load(lora={"r": 4, "lora_alpha": 6, "peft": {"use_dora": True, "use_rslora": True}})
    layer = model.get_base_model().model.language_model.layers[0].self_attn.q_proj
    assert layer.scaling["default"] == 6 / 4**0.5
    assert load(lora={"r": 4, "lora_alpha": 6}).get_base_model().lm_head.weight.requires_grad is False
    magnitude = layer.lora_magnitude_vector["default"].weight
    torch.testing.assert_close(magnitude, layer.base_layer.weight.norm(dim=1))
    assert magnitude.requires_grad


VARIANTS = [
    *(pytest.param({"init_lora_weights": start}, id=f"start {start}") for start in INITIAL_WEIGHTS),
    pytest.param({"use_dora": True, "use_rslora": True}, id="DoRA"),
    pytest.param({"modules_to_save": ["merger"]}, id="a whole module"),
]


@pytest.mark.parametrize("options", VARIANTS)
def test_new_adapters_change_nothing_and_switched_off_they_are_not_there(options, load: Load, adapter, prompts) -> None:
    """So the reference, the adapter switched off, is where training started, and needs no second copy."""
    batch = CompletionBatch([prompts["one"]], [completions(adapter, [6, 3])])
    model = load(lora={"r": 4, "lora_dropout": 0.0, "peft": options}, freeze=[])
    with torch.no_grad():
        start = Policy(load(), adapter)(batch).logprobs_NT
        torch.testing.assert_close(Policy(model, adapter)(batch).logprobs_NT, start, atol=1e-5, rtol=0)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape), alpha=0.05)
        trained = Policy(model, adapter)(batch).logprobs_NT
        with model.disable_adapter():
            off = Policy(model, adapter)(batch).logprobs_NT
    assert float((trained - start).abs().max()) > 0.01
    torch.testing.assert_close(off, start, atol=1e-6, rtol=0)


def test_adapters_do_not_go_on_adapters(load: Load, adapter, tmp_path) -> None:
    load(lora={"r": 2}).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ConfigError, match=r"holds LoRA adapters, not a model .* vlm-r1 export RUN --to DIR"):
        load_model(ModelSection(path=str(tmp_path / "adapter"), lora=LoraSection(r=2)), adapter)


# Mixtures of experts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.endswith("_moe")])
@pytest.mark.parametrize("freeze", [None, []], ids=["language", "everywhere"])
def test_a_mixture_gets_adapters_on_what_is_no_expert(family: str, freeze, family_checkpoint, family_adapter) -> None:
    """As planned, whatever peft makes of the names."""
    adapter, path = family_adapter(family), str(family_checkpoint(family))
    section = ModelSection(path=path, lora=LoraSection(r=2), freeze=freeze)
    model = load_model(section, adapter)
    adapted = {name.partition(".lora_A")[0] for name, _ in model.named_parameters() if ".lora_A" in name}
    targets = lora_targets(load_model(ModelSection(path=path), adapter), section, adapter)
    assert adapted == {f"base_model.model.{name}" for name in targets}
    assert not any("expert" in name or ".mlp." in name for name in adapted if adapter.part_of(name) == "language")


@pytest.mark.filterwarnings("ignore:.*_pattern keys did not match:RuntimeWarning")
def test_layers_that_peft_takes_for_experts(family_checkpoint, family_adapter) -> None:
    lora = LoraSection(r=2, lora_dropout=0, target_modules=["gate_proj", "up_proj", "down_proj"])
    section = ModelSection(path=str(family_checkpoint("glm4v_moe")), lora=lora)
    with pytest.raises(ConfigError, match=r"peft takes .*mlp\.gate_proj for layers of the experts"):
        load_model(section, family_adapter("glm4v_moe"))


def test_experts_are_adapted_only_if_they_are_named(family_checkpoint, family_adapter) -> None:
    adapter, path = family_adapter("qwen3_vl_moe"), str(family_checkpoint("qwen3_vl_moe"))
    base = load_model(ModelSection(path=path), adapter)
    attention = lora_targets(base, ModelSection(path=path, lora=LoraSection()), adapter)
    assert {name.rpartition(".")[2] for name in attention} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    named = {"target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]}
    section = ModelSection(path=path, lora=LoraSection(r=2, lora_dropout=0, peft=named))
    model = load_model(section, adapter)
    of_experts = [p for name, p in model.named_parameters() if p.requires_grad and ".experts." in name]
    assert len(of_experts) == 3 * 2 * 2
    batch = CompletionBatch([family_prompts(adapter)["one"]], [completions(adapter, [4, 3])])
    with torch.no_grad():
        start = Policy(base, adapter)(batch).logprobs_NT
        for parameter in of_experts:
            parameter.normal_(std=0.2)
        trained = Policy(model, adapter)(batch).logprobs_NT
        with model.disable_adapter():
            off = Policy(model, adapter)(batch).logprobs_NT
    assert float((trained - start).abs().max()) > 0.01
    torch.testing.assert_close(off, start, atol=1e-6, rtol=0)


# 4 bits ---------------------------------------------------------------------------------------------------------------

QLORA: dict[str, Any] = {"load_in_4bit": True, "lora": {"r": 2, "lora_dropout": 0.0}}


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_4_bits_want_bitsandbytes(load: Load) -> None:
    with pytest.raises(ConfigError, match=r"bitsandbytes is not installed: pip install -e '\.\[qlora\]'"):
        load(**QLORA)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_4_bits_for_the_language_model(load: Load, adapter, prompts) -> None:
    bitsandbytes: Any = pytest.importorskip("bitsandbytes")
    model = load(**QLORA)
    base = model.get_base_model()
    held = {name for name, module in base.named_modules() if isinstance(module, bitsandbytes.nn.Linear4bit)}
    assert {adapter.part_of(name) for name in held} == {"language"}
    assert "lm_head" not in held
    assert size_by_part(model, adapter) == size_by_part(load(lora=QLORA["lora"]), adapter)
    batch = CompletionBatch([prompts["one"]], [completions(adapter, [6, 3])])
    policy = Policy(model, adapter)
    difference = (policy(batch).logprobs_NT - policy(batch, "rows").logprobs_NT).abs().max()
    assert float(difference) < 1e-4
    policy(batch).logprobs_NT.sum().backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == {
        name for name, p in model.named_parameters() if p.requires_grad
    }
