"""The section `grpo`: its defaults, and options that do nothing or exclude one another."""

from __future__ import annotations

import dataclasses

import pytest
from trl import GRPOConfig

from vlm_r1.config import load_config
from vlm_r1.config.objective import GrpoSection
from vlm_r1.errors import ConfigError

BAD = {
    "delta without effect": (["--grpo.delta=4"], "delta has no effect with num_iterations 1"),
    "delta below the clip": (["--grpo.delta=1.2", "--grpo.num_iterations=2"], "delta is 1.2; wanted more than 1.2"),
    "delta of cispo": (
        ["--grpo.loss_type=cispo", "--grpo.epsilon_high=5", "--grpo.delta=6"],
        "delta has no effect with loss_type cispo, which reads epsilon_high",
    ),
    "a clip of sapo": (
        ["--grpo.loss_type=sapo", "--grpo.num_iterations=2", "--grpo.epsilon=0.1"],
        "epsilon has no effect with loss_type sapo, which reads sapo_temperature_neg, sapo_temperature_pos",
    ),
    "a temperature of another loss": (
        ["--grpo.sapo_temperature_pos=2", "--grpo.num_iterations=2"],
        "sapo_temperature_pos has no effect with loss_type grpo",
    ),
    "a temperature on-policy": (
        ["--grpo.loss_type=sapo", "--grpo.sapo_temperature_pos=2"],
        "sapo_temperature_pos has no effect with num_iterations 1",
    ),
    "a weight of another loss": (
        ["--grpo.vespo_k_neg=2", "--grpo.num_iterations=2"],
        "vespo_k_neg has no effect with loss_type grpo",
    ),
    "a weight on-policy": (["--grpo.loss_type=vespo", "--grpo.vespo_k_neg=2"], "no effect with num_iterations 1"),
    "an off-policy mask on-policy": (
        ["--grpo.off_policy_mask_threshold=0.5"],
        "grpo.off_policy_mask_threshold has no effect with num_iterations 1",
    ),
    "scales of decoupled components": (
        ["--grpo.multi_objective_aggregation=normalize_then_sum", "--grpo.scale_rewards=batch"],
        "scale_rewards has no effect with multi_objective_aggregation normalize_then_sum",
    ),
    "a product of decoupled components": (
        ["--grpo.multi_objective_aggregation=normalize_then_sum", "--reward_combination=product"],
        "so reward_combination product has no effect: set it to sum",
    ),
    "no quantile": (["--grpo.top_entropy_quantile=1.5"], "grpo.top_entropy_quantile"),
    "an entropy penalty": (["--grpo.entropy_coef=-0.1"], "grpo.entropy_coef"),
}


@pytest.mark.parametrize(("overrides", "message"), BAD.values(), ids=BAD)
def test_an_option_without_effect_is_named(recipe, overrides, message) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(recipe(), overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["--grpo.num_iterations=2", "--grpo.delta=1.5"],
        ["--grpo.num_iterations=2", "--grpo.off_policy_mask_threshold=0.5"],
        ["--grpo.off_policy_mask_threshold=0.5", "--sampling.top_p=0.9"],
        ["--grpo.off_policy_mask_threshold=0.5", "--sampling.engine=nowhere:ENGINE"],
        ["--grpo.off_policy_mask_threshold=0.5", "--model.lora={r: 2, lora_dropout: 0.1}"],
        ["--grpo.loss_type=sapo", "--grpo.sapo_temperature_neg=2", "--grpo.num_iterations=2"],
        ["--grpo.loss_type=vespo", "--grpo.vespo_k_neg=2", "--grpo.num_iterations=2"],
        ["--grpo.loss_type=nowhere:LOSS", "--grpo.vespo_k_neg=2", "--grpo.delta=0.5"],
    ],
)
def test_options_that_have_an_effect_are_let_through(recipe, overrides) -> None:
    load_config(recipe(), overrides)


def test_defaults_of_the_objective_are_those_of_trl_but_for_those_that_are_named() -> None:
    trls = {field.name: field.default for field in dataclasses.fields(GRPOConfig)}
    ours = {name: field.default for name, field in GrpoSection.model_fields.items() if name in trls}
    assert {name: (value, trls[name]) for name, value in ours.items() if value != trls[name]} == {
        "loss_type": ("grpo", "dapo"),
        "use_bias_correction_kl": (False, True),
        "steps_per_generation": (1, None),  # TRL counts micro-batches; None makes one optimizer step, as 1 does here
    }
    not_trls = {"dynamic_sampling_rounds", "perception_coef", "perception_entropy_coef"}
    assert GrpoSection.model_fields.keys() - ours.keys() == not_trls
