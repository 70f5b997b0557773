"""How many steps a run takes: as many as the recipe says, or as many as its epochs need."""

from __future__ import annotations

import math
from fractions import Fraction

from vlm_r1.config import Config


def with_steps(config: Config, n_records: int) -> Config:
    """Return the recipe with `training.max_steps` filled in where `num_train_epochs` decides; any other as it is.

    steps = ⌈epochs · records / prompts_per_step⌉, in exact fractions, so that 0.1 epochs of 30 are 3.
    Every step counts prompts_per_step records, also where dynamic sampling draws more.

    Args:
        config: the recipe. The run folder keeps it as it is; everything that runs gets what this function returns.
        n_records: training records in all files.
    """
    training = config.training
    if training.num_train_epochs is None:
        return config
    steps = math.ceil(Fraction(str(training.num_train_epochs)) * n_records / training.prompts_per_step)
    return config.model_copy(update={"training": training.model_copy(update={"max_steps": steps})})
