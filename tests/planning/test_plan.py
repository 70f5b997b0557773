"""Static memory, phase by phase, from numbers of parameters; proposals that fit; the prompt that is planned for."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from testing_reward_models import write_reward_model
from vlm_r1.config import load_config
from vlm_r1.config.model import ModelSection
from vlm_r1.errors import ConfigError, ModelError
from vlm_r1.grpo.reference import Reference
from vlm_r1.models import load_model
from vlm_r1.models.parts import size_by_part
from vlm_r1.planning.plan import (
    CONTEXT,
    FRAGMENTATION,
    Plan,
    StaticMemory,
    least_total,
    make_plan,
    shapes_of,
    static_memory,
)
from vlm_r1.planning.prompts import longest_prompt, made_up_prompt
from vlm_r1.planning.propose import Search, changes, largest_micro_batch, propose
from vlm_r1.training.run import open_training


@pytest.fixture
def planned(recipe):
    """`planned(gpus, **options)`: the plan of the small recipe with these overrides."""

    def make(gpus: int = 1, **options: Any) -> Plan:
        own = {"grpo.num_generations": 2, "training.prompts_per_step": 2, "training.mixed_precision": "no"}
        config = load_config(recipe(**{**own, **options}))
        return make_plan(config, made_up_prompt(config, (84, 56), images=1, text_tokens=20), gpus)

    return make


def test_weights_gradients_and_optimizer_by_hand(planned, tiny_checkpoint, adapter) -> None:
    plan = planned()
    model = load_model(ModelSection(path=str(tiny_checkpoint)), adapter)
    parameters = sum(p.numel() for p in model.parameters())
    own = plan.static
    assert own.sizes == size_by_part(model, adapter)
    assert (own.weights, own.gradients, own.reference) == (4 * parameters, 4 * parameters, 0)
    tensors = sum(1 for _ in model.parameters())
    assert own.optimizer == 8 * parameters + 4 * tensors, "two moments, and a count of steps for each tensor"
    always = own.weights + own.optimizer
    assert plan.phases["policy pass"] == always + own.gradients + plan.policy.total
    assert plan.phases["sampling"] == always + plan.sampling.total
    moving = max(plan.policy.total, plan.sampling.total, plan.checks.total)
    assert plan.margin == CONTEXT + int(FRAGMENTATION * moving)
    assert plan.total == max(plan.phases.values()) + plan.margin


def test_a_micro_batch_holds_groups_of_one_part_only(planned) -> None:
    whole, parts = planned(), planned(**{"grpo.steps_per_generation": 2})
    assert (whole.images, parts.images) == (2, 1)
    assert parts.whole_step == whole.whole_step // 2
    assert parts.policy.total < whole.policy.total
    assert parts.sampling == whole.sampling, "sampling is of all prompts"
    with pytest.raises(ConfigError, match="multiple of 2 x 2 = 4"):
        planned(2, **{"grpo.steps_per_generation": 2})


def test_what_each_setting_changes(recipe, adapter) -> None:
    def static(**options: Any) -> StaticMemory:
        config = load_config(recipe(**{"training.mixed_precision": "no", **options}))
        return static_memory(config, shapes_of(config, adapter))

    full = static(**{"grpo.beta": 0.04})
    total = sum(size.parameters for size in full.sizes)
    assert full.reference == 4 * total
    half = static(**{"grpo.beta": 0.04, "training.mixed_precision": "bf16"})
    assert (half.weights, half.reference) == (4 * total, 2 * total)
    lora = static(**{"grpo.beta": 0.04, "model.lora": {"r": 2}})
    trainable = sum(size.trainable for size in lora.sizes)
    assert (lora.gradients, lora.reference) == (4 * trainable, 0)
    assert lora.weights == 2 * total + 4 * trainable, "on a GPU frozen weights are bfloat16, adapters float32"
    quantized = static(**{"model.lora": {"r": 2}, "model.load_in_4bit": True})
    assert 0.25 * lora.weights < quantized.weights < lora.weights, "linear layers of the language model alone"
    frozen = static(**{"model.freeze_vision_modules": True})
    assert frozen.gradients == 4 * next(size.parameters for size in full.sizes if size.part == "language")


@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_the_reference_is_as_large_as_planned(recipe, mixed_precision) -> None:
    """The trainer's own second copy, weighed."""
    config = load_config(recipe(**{"grpo.beta": 0.04, "training.mixed_precision": mixed_precision}))
    run = open_training(config, stage="grpo", resume=False)
    reference = Reference(config, run.env.adapter, run.learner)
    weighed = sum(p.nbytes for p in reference.frozen.parameters())
    assert static_memory(config, shapes_of(config, run.env.adapter)).reference == weighed


def test_reward_models_are_counted_where_they_are(planned, tmp_path) -> None:
    """A tiny qwen2 has 16 weights a token, 2 layers, a norm of 16 and a head of 16.

    A layer has four matrices of 16 · 16, three biases of 16, three matrices of 16 · 32, and two norms of 16.
    """
    judge = write_reward_model(tmp_path / "judge")
    n_tokens = json.loads((tmp_path / "judge/config.json").read_text())["vocab_size"]
    layer = 4 * 16 * 16 + 3 * 16 + 3 * 16 * 32 + 2 * 16
    parameters = n_tokens * 16 + 2 * layer + 16 + 16

    def held(gpus: int = 1, **options: object) -> int:
        named = ", ".join(f"{name}={value!r}" for name, value in {"path": judge, **options}.items())
        again = f"reward_model({named}, batch_size=2)"  # the same model is loaded once
        return planned(gpus, rewards={f"reward_model({named})": 1.0, again: 1.0}).static.reward_models

    assert held() == 8 * parameters, "as it is stored: float64"
    assert held(dtype="bfloat16") == held(gpus=2, dtype="bfloat16", device="cuda") == 2 * parameters
    assert held(device="cpu") == held(device="cuda:1") == 0, "another device"
    assert held(gpus=2, device="cuda:1") == 2 * 8 * parameters, "both processes load it there"
    plain, judged = planned(), planned(rewards={f"reward_model(path={judge!r})": 1.0})
    assert judged.total - plain.total == 8 * parameters
    assert judged.sharded(2)["ZeRO-3, FSDP"] - plain.sharded(2)["ZeRO-3, FSDP"] == 8 * parameters


def test_several_gpus_share_the_prompts_and_shard_static_memory(planned) -> None:
    one, two = (planned(gpus, **{"training.prompts_per_step": 4}) for gpus in (1, 2))
    assert (one.lengths.prompts, two.lengths.prompts) == (4, 2)
    assert two.static == one.static
    own, passing = two.static, max(two.policy.total, two.sampling.total, two.checks.total)
    sharded = two.sharded(2)
    assert sharded["ZeRO-2"] == own.weights + (own.gradients + own.optimizer) // 2 + passing + two.margin
    assert sharded["ZeRO-3, FSDP"] == sharded["ZeRO-2"] - own.weights + own.weights // 2 + own.unsharded
    assert two.sharded(4)["ZeRO-2"] < sharded["ZeRO-2"] < one.sharded(1)["ZeRO-2"] + CONTEXT


def test_a_plan_changes_nothing_that_the_next_could_see(recipe) -> None:
    config = load_config(recipe(**{"grpo.num_generations": 2, "training.prompts_per_step": 1}))
    prompt = made_up_prompt(config, (84, 56), images=1, text_tokens=20)
    layers = prompt.adapter.config.get_text_config().num_hidden_layers  # type: ignore[attr-defined]
    first, second = (make_plan(config, prompt, 1) for _ in range(2))
    assert (first.phases, first.margin) == (second.phases, second.margin)
    assert prompt.adapter.config.get_text_config().num_hidden_layers == layers  # type: ignore[attr-defined]


def test_the_longest_prompt_of_the_data(recipe, picture, tmp_path) -> None:
    lines = []
    for n, (width, height, text) in enumerate([(56, 56, "red"), (140, 112, "red"), (140, 112, "the large red circle")]):
        turns = [{"from": "human", "value": f"<image>{text}"}, {"from": "gpt", "value": [1, 1, 9, 9]}]
        lines.append(json.dumps({"id": n, "image": picture(width, height), "conversations": turns}))
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    prompt = longest_prompt(
        load_config(
            recipe(**{"data.train": [{"path": str(tmp_path / "data.jsonl"), "image_root": str(tmp_path.parent)}]})
        )
    )
    assert prompt.image_tokens == 5 * 4
    assert "the large red circle" in prompt.encoded.text


def test_a_made_up_prompt(recipe) -> None:
    config = load_config(recipe())
    one, several = (made_up_prompt(config, (112, 56), images=n, text_tokens=t) for n, t in ((1, 10), (3, 50)))
    assert (one.image_tokens, several.image_tokens) == (8, 24)
    text = len(several.encoded.ids_L) - 24 - (len(one.encoded.ids_L) - 8)
    assert text >= 40, "a word is a token or, with a small vocabulary, two"


def test_a_generic_family_is_refused(recipe, family_checkpoint) -> None:
    options = {"model.path": str(family_checkpoint("llava")), "model.box_format": "norm_1"}
    config = load_config(recipe(**options))
    prompt = made_up_prompt(config, (56, 56), 1, 5)
    with pytest.raises(ModelError, match='"llava" has no adapter of its own, and without one it cannot be planned for'):
        make_plan(config, prompt, 1)


@pytest.fixture
def search(recipe):
    """`search(limit, **options)`: proposals for a GPU with `limit` bytes besides what CUDA takes."""

    def make(limit: int, **options: Any) -> Search:
        training = {"mixed_precision": "bf16", "max_tokens_per_micro_batch": 4096, "trust_checks": False}
        options |= {f"training.{name}": value for name, value in (training | {"prompts_per_step": 1}).items()}
        options |= {"grpo.num_generations": 2, "sampling.max_completion_length": 2048}
        path = recipe(**{"model.gradient_checkpointing": True, **options})
        prompt = made_up_prompt(load_config(path), (168, 168), images=1, text_tokens=20)
        return Search(lambda more: load_config(path, list(more)), prompt, gpus=1, limit=CONTEXT + limit)

    return make


def test_the_largest_micro_batch_is_the_largest_that_fits(search) -> None:
    one = search(math.inf)
    whole = one.plan(()).total - CONTEXT
    tight = replace(one, limit=CONTEXT + int(0.7 * whole))
    positions = largest_micro_batch(tight, (), tight.plan(()))
    assert positions is not None
    assert positions % 256 == 0
    fitting, beyond = (
        tight.plan((f"--training.max_tokens_per_micro_batch={n}",)).total for n in (positions, positions + 512)
    )
    assert fitting <= tight.limit < beyond


def test_changes_come_in_their_order_and_the_first_that_fits_is_proposed(search) -> None:
    options = {"grpo.beta": 0.04}
    start = search(0, **options)
    assert [" ".join(change) for change in changes(start.load(()))] == [
        "",
        "--model.freeze_vision_modules=true",
        "--grpo.beta=0",
        "--model.lora={}",
        "--model.lora={} --model.load_in_4bit=true",
    ]
    least = start.plan(()).lengths.least
    smallest, freeze = f"--training.max_tokens_per_micro_batch={least}", "--model.freeze_vision_modules=true"
    needs = [start.plan(overrides).total - CONTEXT for overrides in ((smallest,), (freeze, smallest))]
    for limit, first in ((needs[0] + 1000, smallest.partition("=")[0]), (sum(needs) // 2, freeze)):
        searching = replace(start, limit=CONTEXT + limit)
        found = propose(searching)
        assert found is not None
        assert found.overrides[0].startswith(first)
        assert searching.fits(found.plan)
        assert found.plan.total == searching.plan(found.overrides).total
    assert propose(replace(start, limit=CONTEXT + 1000)) is None


def test_static_memory_is_a_lower_bound(search) -> None:
    one = search(0)
    assert least_total(one.load(()), one.prompt.adapter) < one.plan(()).total


def test_prompts_that_cannot_be_shared_out(planned) -> None:
    with pytest.raises(ConfigError, match="to be a multiple of 3"):
        planned(gpus=3)
