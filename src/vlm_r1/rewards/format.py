"""The reward of keeping to the asked form."""

from __future__ import annotations

from typing import Any

from vlm_r1.parsing.tags import TaggedText
from vlm_r1.rewards.base import RewardInput
from vlm_r1.types import Thinking


def format_reward(given: RewardInput[Any]) -> float:
    """1 if the completion has exactly the template's tags and its answer can be parsed by the task, else 0.

    With thinking required: `<think>…</think><answer>…</answer>`, each tag exactly once, in order, and nothing but white
    space outside. With thinking free: the same, or `<answer>…</answer>` alone. Without thinking: none of these tags.
    Source: VLM-R1, arXiv 2504.07615, sections 4.2–4.3; there the answer's grammar is a pattern inside the reward, here
    it is the task's own parser, so format and accuracy cannot disagree about what an answer is.
    """
    return 1.0 if keeps_tags(given.tagged, given.thinking) and given.value is not None else 0.0


def keeps_tags(tagged: TaggedText, thinking: Thinking) -> bool:
    """Whether a completion has the tags that the template asks for, and no others."""
    match thinking:
        case Thinking.REQUIRED:
            return tagged.well_formed
        case Thinking.FREE:
            return tagged.well_formed or tagged.answer_alone
        case Thinking.ABSENT:
            return tagged.tag_count == 0
