"""The original's format rewards: one for each model family, and one for all other tasks."""

from __future__ import annotations

import re

from vlm_r1.official.gold import Gold
from vlm_r1.official.texts import ANSWER, END_ANSWER, find_in_order

THINK = "<think>"
_BETWEEN = re.compile(r"</think>\s*<answer>")
_BOX = r"\[\d+,\s*\d+,\s*\d+,\s*\d+\]"


def has_tags(completion: str, gold: Gold) -> float:
    """`format`: 1 if the text begins with a thought and ends with an answer that follows a thought; else 0.

    The answer may be anything, and there may be more tags in between.

    >>> has_tags("<think></think><answer>x</answer>", Gold(None)), has_tags("<answer>x</answer>", Gold(None))
    (1.0, 0.0)
    """
    middle = _BETWEEN.search(completion, len(THINK)) if completion.startswith(THINK) else None
    return float(middle is not None and completion.endswith(END_ANSWER, middle.end()))


def has_tags_and_object(completion: str, gold: Gold) -> float:
    """`rec_format/qwen`: 1 if a thought is followed by an answer with four integers in braces, anywhere; else 0."""
    return _in_order(completion, THINK, _BETWEEN.pattern, "{", _BOX, "}", END_ANSWER)


def has_tags_and_box(completion: str, gold: Gold) -> float:
    """`rec_format/internvl`: 1 if a thought is followed by an answer with four integers, anywhere; else 0."""
    return _in_order(completion, THINK, _BETWEEN.pattern, _BOX, END_ANSWER)


def has_think_before_answer(completion: str, gold: Gold) -> float:
    """`rec_format/glm`: 1 if a thought is opened before an answer; it need not be closed."""
    return _in_order(completion, THINK, ANSWER, END_ANSWER)


def _in_order(completion: str, *patterns: str) -> float:
    return float(find_in_order(completion, *patterns) is not None)
