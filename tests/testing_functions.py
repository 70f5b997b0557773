"""What tests of single functions share: a completion, and a function as if a recipe had named it."""

from __future__ import annotations

from dataclasses import replace

from vlm_r1.parsing.tags import split_tags
from vlm_r1.rewards.base import RewardInput
from vlm_r1.rewards.call import Reward, resolve_reward
from vlm_r1.types import Record, Thinking


def given() -> RewardInput:
    """A completion of a record of f.jsonl:1."""
    record = Record("1", "vqa", "?", (), "x", source="f.jsonl:1")
    return RewardInput("a", split_tags("a"), Thinking.FREE, None, "x", (), record)


def from_outside(function) -> Reward:
    """The function as if a recipe had named it."""
    return replace(resolve_reward("f", {"f": function}), outside=True)
