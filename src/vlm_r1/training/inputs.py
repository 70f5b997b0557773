"""Hashes of what a run is made from: the rows of its data files, the files of its model and of its reward models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vlm_r1.config import Config
from vlm_r1.data.sources import Sources
from vlm_r1.rewards.model import RewardModel, reward_models
from vlm_r1.runtime.model_hash import hash_model


def hash_inputs(config: Config, records: Sources, held_out: Mapping[str, Sources], model: Any) -> dict[str, str]:
    """Return a hash of each input by the option that names it, e.g. {"data.train.0.path": "5f…", "model.path": "…"}.

    Rows count with their order; pictures do not.

    Args:
        model: the config of the model; it knows the commit of a model of the Hub.

    Raises:
        DataError, ModelError: a file cannot be read.
    """
    found = {f"data.train.{place}.path": file.hash_rows() for place, file in enumerate(records.files)}
    found |= {f"data.eval.{name}.path": one_set.files[0].hash_rows() for name, one_set in held_out.items()}
    judges = named_reward_models(config).items()
    found |= {option: hash_model(judge.path, judge.config()) for option, judge in judges}
    return {**found, "model.path": hash_model(config.model.path, model, config.model.trust_remote_code)}


def named_reward_models(config: Config) -> dict[str, RewardModel]:
    """Return the reward models of a recipe, by the option that names each."""
    options = {f"rewards.{name}": name for name in config.rewards}
    options |= {f"data.train.{place}.reward": source.reward for place, source in enumerate(config.data.train)}
    options |= {f"data.eval.{name}.reward": source.reward for name, source in config.data.eval.items()}
    options |= {f"data.allowed_rewards.{place}": name for place, name in enumerate(config.data.allowed_rewards)}
    found = reward_models(options.values())
    return {option: found[name] for option, name in options.items() if name in found}
