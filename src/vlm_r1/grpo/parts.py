"""Parts of a step's groups: with `steps_per_generation`, an optimizer step is taken on each of them in turn."""

from __future__ import annotations

from collections.abc import Sequence

from vlm_r1.config import Config
from vlm_r1.errors import ConfigError
from vlm_r1.types import Group


def check_parts(config: Config, processes: int) -> None:
    """Check that every process has as many groups in each part as every other.

    Raises:
        ConfigError: `prompts_per_step` is no multiple of processes times parts.
    """
    parts, prompts = config.grpo.steps_per_generation, config.training.prompts_per_step
    if parts > 1 and prompts % (parts * processes):
        raise ConfigError(
            f"grpo.steps_per_generation {parts} cuts the {prompts} groups of a step unevenly over {processes} "
            f"processes: wanted training.prompts_per_step to be a multiple of {parts} x {processes} = "
            f"{parts * processes}"
        )


def cut(groups: Sequence[Group], places: Sequence[int], parts: int) -> list[list[Group]]:
    """Return this process's groups of each part: the group at place i of the step belongs to part i modulo `parts`.

    So a part does not depend on the number of processes. With equal shares of consecutive groups, as training has them,
    every process has equally many groups in each part. Dynamic sampling may leave a process none; the part as a whole
    still has its share.

    Args:
        places: of each group, its place among the groups of the step, over all processes.
        parts: their number.
    """
    return [[group for group, place in zip(groups, places, strict=True) if place % parts == k] for k in range(parts)]
