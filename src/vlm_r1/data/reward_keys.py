"""Keys of a row that name its reward, in our words and in those of other projects; and keys that may mean it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from vlm_r1.data.formats import Example
from vlm_r1.data.formats.shown import shown
from vlm_r1.errors import DataError
from vlm_r1.parsing.json_values import is_object
from vlm_r1.registry import may_be_allowed, quoted
from vlm_r1.rewards.names import reward_from_data
from vlm_r1.types import AnswerValue, Record

OUR_KEY = "accu_reward_method"
"""The original VLM-R1's key, which is ours too."""

REWARD_KEYS = (
    "reward_type",
    "reward_method",
    "reward_name",
    "reward_fn",
    "reward_func",
    "reward_function",
    "reward",
)
"""Keys of other projects that name a reward. Under `reward` only a text does; a number there is a score."""

_MAYBE = {
    "data_source": "verl chooses the reward by it",
    "reward_model": "it may name a model that judges",
    "reward_model.style": "verl lets a model judge if it is not rule",
    "reward_model.verifier": "V-Triune chooses the reward by it",
    "problem_type": "Video-R1 chooses the reward by it",
    "verifier": "it may name the reward",
    "rm_type": "slime chooses the reward by it",
    "metadata.rm_type": "slime chooses the reward by it",
}
"""Keys that may mean a reward, with a dot before the key of an object → what other projects do with them."""

_SHOWN_VALUES = 3


def reward_of(example: Example, allowed: tuple[str, ...], default: str | None) -> str | None:
    """Return the reward of a row: the one that a key of the row names, or the default.

    Every name passes the door for names out of data (`reward_from_data`). If the default is code of the user's own,
    the keys of other projects are left to that code.

    Args:
        example: the row; the keys of other projects stand in its columns.
        allowed: what rows may name beside our rewards; see `registry.name_from_data`.
        default: the reward of the data source.

    Raises:
        DataError: a key names no reward of ours, or two keys name different ones.
    """
    found = {OUR_KEY: reward_from_data(example.reward, allowed)} if example.reward else {}
    if default is None or not may_be_allowed(default):
        found |= {key: _checked(key, name, allowed) for key, name in _named(example.columns).items()}
    if not found:
        return default
    (key, name), *others = found.items()
    for other, another in others:
        if another != name:
            raise DataError(
                f'"{key}" names the reward {quoted(name)}, but "{other}" {quoted(another)}; wanted one of these keys, '
                "or the same name under both"
            )
    return name


def unused_reward_keys(records: Iterable[Record]) -> list[str]:
    """Return a sentence for each key that may mean a reward, of the records for which nobody named a reward.

    Each value is counted once, e.g. `"hiyouga/geometry3k" (2,101)`.
    """
    counts: dict[str, Counter[str]] = {}
    for row in (record.row for record in records if record.reward is None):
        for key in _MAYBE:
            value = _text_at(row, key)
            if value and (key, value) != ("reward_model.style", "rule"):
                counts.setdefault(key, Counter())[value] += 1
    return [_sentence(key, found) for key, found in counts.items()]


def _sentence(key: str, found: Counter[str]) -> str:
    values = [f"{quoted(value)} ({n:,})" for value, n in found.most_common(_SHOWN_VALUES)]
    more = f" and {len(found) - len(values):,} more values" if len(found) > len(values) else ""
    return (
        f'the key "{key}" ({_MAYBE[key]}) is not used: {", ".join(values)}{more}. {found.total():,} records have the '
        f"reward of their task; for another, set reward in the data source, or write {OUR_KEY} into the rows"
    )


def _named(columns: Mapping[str, AnswerValue]) -> dict[str, str]:
    """Return the names that the keys of other projects hold, by key."""
    found: dict[str, str] = {}
    for key in REWARD_KEYS:
        value = columns.get(key)
        if value in (None, "") or (key == "reward" and (not isinstance(value, str) or _is_number(value))):
            continue
        if not isinstance(value, str):
            raise DataError(f'"{key}" is {shown(value)}, wanted the name of a reward, or no such key')
        found[key] = value
    return found


def _checked(key: str, name: str, allowed: tuple[str, ...]) -> str:
    try:
        return reward_from_data(name, allowed)
    except DataError as error:
        raise DataError(
            f'"{key}" names the reward (if it means something else, rename it; if a reward of your own reads it, name '
            f"that as reward of the data source): {error}"
        ) from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _text_at(row: Mapping[str, Any], key: str) -> str | None:
    outer, _, inner = key.partition(".")
    value = row.get(outer)
    if inner:
        value = value.get(inner) if is_object(value) else None
    return value if isinstance(value, str) else None
