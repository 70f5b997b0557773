"""Samplers by name: table and config know the same, and a wrong name is found before anything is loaded."""

from __future__ import annotations

from typing import Any

import pytest

from vlm_r1.cli.dry_run import print_plan
from vlm_r1.config import load_config
from vlm_r1.config.schema import SamplingSection
from vlm_r1.config.words import SAMPLERS as NAMES
from vlm_r1.errors import ConfigError
from vlm_r1.grpo.trainer import train
from vlm_r1.sampling.build import SAMPLERS, build_sampler


def test_the_config_knows_the_table():
    assert tuple(SAMPLERS) == NAMES


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        pytest.param("hff", 'unknown name "hff". Did you mean "hf"', id="misspelt"),
        pytest.param("nowhere:Engine", 'sampling.engine "nowhere:Engine" cannot be imported', id="not importable"),
    ],
)
def test_a_wrong_name_is_found_before_anything_is_loaded(engine, message, recipe):
    with pytest.raises(ConfigError, match=message):
        train(load_config(recipe(**{"sampling.engine": engine, "model.path": "nowhere"})))


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        pytest.param("math:pi", "is 3.14159", id="nothing to call"),
        pytest.param("operator:eq", r"made an object without sync\(\)", id="makes something else"),
    ],
)
def test_what_is_no_sampler(engine, message):
    policy: Any = None
    with pytest.raises(ConfigError, match=message):
        build_sampler(policy, SamplingSection(engine=engine))


@pytest.mark.parametrize("option", ["grpo.loss_type", "grpo.scale_rewards", "training.optim"])
def test_so_is_that_of_an_objective(option, recipe):
    config = load_config(recipe(**{option: "nowhere:Name", "model.path": "nowhere"}))
    for begin in (train, lambda config: print_plan(config, "grpo")):
        with pytest.raises(ConfigError, match='"nowhere:Name" cannot be imported'):
            begin(config)
