"""Samplers by name: table and config know the same, and a wrong name is found before anything is loaded."""

from __future__ import annotations

import pytest

from vlm_r1.config import load_config
from vlm_r1.config.words import SAMPLERS as NAMES
from vlm_r1.errors import ConfigError
from vlm_r1.grpo.trainer import train
from vlm_r1.sampling.build import SAMPLERS


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


@pytest.mark.parametrize("option", ["grpo.loss_type", "grpo.scale_rewards", "training.optim"])
def test_so_is_that_of_an_objective(option, recipe):
    with pytest.raises(ConfigError, match='"nowhere:Name" cannot be imported'):
        train(load_config(recipe(**{option: "nowhere:Name", "model.path": "nowhere"})))
