"""The door for names of rewards out of data: data comes from strangers (docs/security.md)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from vlm_r1.config.secrets import masked, names_variable
from vlm_r1.errors import ConfigError, DataError
from vlm_r1.registry import name_from_data, split_options
from vlm_r1.rewards import REWARDS
from vlm_r1.rewards.model import NAME
from vlm_r1.rewards.signature import resolve_reward


@lru_cache(maxsize=1024)
def reward_from_data(name: str, allowed: tuple[str, ...] = ()) -> str:
    """Check the name of a reward, with its options, that stands in a row of data. Nothing from outside is imported.

    Args:
        name: e.g. "iou_threshold(at=0.75)".
        allowed: what the recipe or the command line allows beside `REWARDS`; see `registry.name_from_data`.

    Returns:
        The name, as `resolve_reward` takes it.

    Raises:
        DataError: a row may not name it, or an option of one of our rewards is unknown, of the wrong type or out of
            range.

    >>> reward_from_data("iou_threshold(at=0.75)")
    'iou_threshold(at=0.75)'
    """
    checked = name_from_data("reward", name, REWARDS, allowed)
    if checked not in allowed and names_variable(split_options(checked)[1]):
        raise DataError(
            f"the reward {masked(checked)} takes a value from the environment, which data may not ask for: name the "
            "reward with this option in the recipe (reward of the data source), or with --reward"
        )
    if checked.partition("(")[0].strip() in REWARDS:
        try:
            resolve_reward(checked, REWARDS)
        except ConfigError as error:
            raise DataError(str(error)) from None
    return checked


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Return how tables, curves and the progress line call the components of a reward.

    A reward of one's own is called by what follows its module, a reward model by the last part of its path. Two that
    would be called alike keep their names.

    >>> names = ["iou", "my_package.rewards:Short(at=0.5)", "reward_model(path='/models/judge', dtype='float32')"]
    >>> list(short_names(names).values())
    ['iou', 'Short', 'reward_model(judge)']
    """
    short = {name: _short_name(name) for name in names}
    called = list(short.values())
    return {name: one if called.count(one) == 1 else name for name, one in short.items()}


def _short_name(name: str) -> str:
    if not name.startswith(f"{NAME}("):
        module, of_module, own = name.partition("(")[0].rpartition(":")
        return own if module and of_module and own else name
    try:
        path = split_options(name)[1].get("path")
    except ValueError:  # a name out of the files of a run, which may be cut or damaged
        return name
    return f"{NAME}({path.rstrip('/').rpartition('/')[2]})" if isinstance(path, str) else name
