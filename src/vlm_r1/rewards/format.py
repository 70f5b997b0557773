"""The reward of keeping to the asked form."""

from __future__ import annotations

from typing import Any

from vlm_r1.rewards.base import RewardInput


def format_reward(given: RewardInput[Any]) -> float:
    """1 if the completion has exactly the template's tags and its answer can be parsed by the task, else 0.

    With thinking: `<think>…</think><answer>…</answer>`, each tag exactly once, in order, and nothing but white space
    outside. Without: none of these tags. Source: VLM-R1, arXiv 2504.07615, sections 4.2–4.3; there the answer's
    grammar is a pattern inside the reward, here it is the task's own parser, so format and accuracy cannot disagree
    about what an answer is.
    """
    tags_kept = given.tagged.well_formed if given.thinking else given.tagged.tag_count == 0
    return 1.0 if tags_kept and given.value is not None else 0.0
