"""The recipe of a rehearsal: what becomes smaller, what is not rehearsed and said, and what stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vlm_r1.config.load import validate
from vlm_r1.rehearsal.recipe import Rehearsed, folder_of, rehearsed_recipe
from vlm_r1.training.new_run import Stage


def rehearsed(stage: Stage = "grpo", model_type: str = "qwen2_5_vl", **sections: Any) -> Rehearsed:
    own = {"output_dir": "runs/x", "model": {"path": "m"}, "data": {"train": [{"path": "a.jsonl"}]}}
    tree = {**own, **{name: {**own.get(name, {}), **section} for name, section in sections.items()}}
    return rehearsed_recipe(validate(tree, "recipe"), stage, model_type, {"model.path": "tiny", "output_dir": "out"})


def test_what_stays() -> None:
    options = {"loss_type": "dapo", "beta": 0.1, "num_iterations": 2, "epsilon_high": 0.28}
    found = rehearsed(grpo=options, sampling={"temperature": 0.7, "top_p": 0.9}, training={"optim": "muon"}).config
    assert {name: getattr(found.grpo, name) for name in options} == options
    assert (found.sampling.temperature, found.sampling.top_p, found.training.optim) == (0.7, 0.9, "muon")
    assert (found.model.path, found.output_dir) == ("tiny", "out")


def test_what_becomes_smaller_is_said_with_the_recipe_s_value() -> None:
    found = rehearsed(
        training={"max_steps": 600, "prompts_per_step": 16, "warmup_steps": 50, "lr_scheduler_type": "cosine"},
        grpo={"steps_per_generation": 4, "num_generations": 8},
        sampling={"max_completion_length": 2048},
    )
    training = found.config.training
    assert (training.max_steps, training.prompts_per_step, training.warmup_steps) == (3, 4, 1)
    assert (found.config.grpo.num_generations, found.config.sampling.max_completion_length) == (4, 32)
    assert "training.max_steps 3 (600)" in found.smaller
    assert "training.prompts_per_step 4 (16)" in found.smaller, "a multiple of steps_per_generation"
    assert "sampling.max_completion_length 32 (2,048)" in found.smaller
    assert len(found.missed) == 1, "the weights, tokenizer and memory of the model, always"


def test_a_smaller_recipe_stays_as_it_is() -> None:
    found = rehearsed(
        training={"max_steps": 3, "prompts_per_step": 1, "save_steps": 2},
        grpo={"num_generations": 2, "entropy_coef": 0.01},
        sampling={"max_completion_length": 8},
    )
    assert found.smaller == []


@pytest.mark.parametrize(
    ("section", "values", "option", "value", "said"),
    [
        pytest.param("model", {"load_in_4bit": True, "lora": {}}, "load_in_4bit", False, "4 bits", id="4 bits"),
        pytest.param(
            "model",
            {"attn_implementation": "flash_attention_2"},
            "attn_implementation",
            "auto",
            "flash",
            id="attention",
        ),
        pytest.param("model", {"trust_remote_code": True}, "trust_remote_code", False, "does not run", id="code"),
        pytest.param("training", {"mixed_precision": "fp16"}, "mixed_precision", "no", "float16", id="float16"),
        pytest.param("training", {"optim": "paged_adamw_8bit"}, "optim", "adamw", "takes its place", id="paged"),
        pytest.param("training", {"offload_optimizer": True}, "offload_optimizer", False, "no GPU", id="offload"),
        pytest.param(
            "training", {"report_to": ["tensorboard", "wandb"]}, "report_to", ["tensorboard"], "wandb", id="tracker"
        ),
        pytest.param("sampling", {"engine": "my.vllm:Sampler"}, "engine", "hf", "not started", id="sampler"),
        pytest.param(
            "data",
            {"max_prompt_length": 900, "train": [{"path": "a"}]},
            "max_prompt_length",
            None,
            "dry-run",
            id="length",
        ),
        pytest.param(
            "data", {"chat_template_kwargs": {"x": 1}}, "chat_template_kwargs", {}, "x: a switch", id="switch"
        ),
    ],
)
def test_what_is_not_rehearsed_is_said(section, values, option, value, said) -> None:
    found = rehearsed(**{section: values})
    assert getattr(getattr(found.config, section), option) == value
    assert [line for line in found.missed if line.startswith(f"{section}.{option} ") or f".{option}:" in line]
    assert any(said in line for line in found.missed)


def test_a_random_router_computes_in_float32() -> None:
    bf16 = {"mixed_precision": "bf16"}
    assert rehearsed(training=bf16).config.training.mixed_precision == "bf16"
    found = rehearsed(model_type="qwen3_vl_moe", training=bf16)
    assert found.config.training.mixed_precision == "no"
    assert any("experts" in line for line in found.missed)


def test_reward_models_are_left_out_wherever_they_are_named() -> None:
    judge = 'reward_model(path="org/judge")'
    tree = {"train": [{"path": "a.jsonl", "reward": judge}], "allowed_rewards": [judge, "my.rewards:F"]}
    found = rehearsed(data=tree, rewards={judge: 1.0, "accuracy": 0.0, "format": 0.0})
    assert found.config.rewards == {"accuracy": 0.0, "format": 1.0}, "some weight has to be left"
    assert found.config.data.train[0].reward is None
    assert found.config.data.allowed_rewards == ["my.rewards:F"]
    assert sum("a reward model is not loaded" in line for line in found.missed) == 3


def test_supervised_training_needs_no_groups() -> None:
    found = rehearsed("sft", training={"num_train_epochs": 2})
    assert [line.split()[0] for line in found.smaller] == [
        "training.max_steps",
        "training.num_train_epochs",
        "training.prompts_per_step",
        "training.save_steps",
    ]


def test_the_folder_lies_beside_that_of_the_run() -> None:
    config = validate({"output_dir": "runs/x", "model": {"path": "m"}, "data": {}}, "recipe")
    assert folder_of(config) == Path("runs/x-rehearsal")
