"""Rewards of the form of a completion; all follow the template's rule about thinking (`Thinking`)."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from vlm_r1.parsing.limits import MAX_ANSWER_CHARS
from vlm_r1.parsing.normal_form import normalize_text
from vlm_r1.parsing.tags import ANSWER, END_ANSWER, TaggedText, answer_text
from vlm_r1.rewards.base import RewardInput
from vlm_r1.types import Thinking

_FENCED = re.compile(r"\A```(?:json)?(.*)```\Z", re.DOTALL)


def format_reward(given: RewardInput[Any]) -> float:
    """1 if the completion has exactly the template's tags and its answer can be parsed by the task, else 0.

    With thinking required: `<think>…</think><answer>…</answer>`, each tag exactly once, in order, and only white space
    outside. With thinking free: the same, or `<answer>…</answer>` alone. Without thinking: none of these tags.
    Source: VLM-R1, arXiv 2504.07615, sections 4.2–4.3. There the answer's grammar is a pattern inside the reward. Here
    the task's own parser decides, so that format and accuracy agree about what an answer is.
    """
    return float(keeps_tags(given.tagged, given.thinking) and given.value is not None)


def tags(given: RewardInput[Any]) -> float:
    """1 if the completion has exactly the template's tags, with any content; else 0."""
    return float(keeps_tags(given.tagged, given.thinking))


def json_format(given: RewardInput[Any]) -> float:
    """1 if the answer is a JSON list or object, bare or as one fenced block, or the word None; else 0.

    Detection prompts ask for None if nothing is found. Only the answer counts, so an answer tag in the thinking does
    not. Not JSON: NaN and Infinity, anything after the end, answers over `MAX_ANSWER_CHARS`.
    Source: the detection format of VLM-R1, arXiv 2504.07615, section 4.3.
    """
    answer = answer_text(given.text, given.tagged, given.thinking)
    return float(answer is not None and len(answer) <= MAX_ANSWER_CHARS and _is_json(answer.strip()))


def one_answer(given: RewardInput[Any]) -> float:
    """1 if there is exactly one answer, and one candidate in it, else 0.

    The whole completion, thinking included, must have one `<answer>…</answer>` (without thinking, no such tag), and the
    task must be able to parse it: parsers refuse two boxes, two numbers or two letters if one is asked for. This is
    milder than `format_reward`: other tags and text outside do not matter.
    """
    blocks = 0 if given.thinking is Thinking.ABSENT else 1
    alone = given.text.count(ANSWER) == given.text.count(END_ANSWER) == blocks
    return float(alone and given.value is not None)


def keeps_tags(tagged: TaggedText, thinking: Thinking) -> bool:
    """Return whether a completion has exactly the tags that the template asks for."""
    match thinking:
        case Thinking.REQUIRED:
            return tagged.well_formed
        case Thinking.FREE:
            return tagged.well_formed or tagged.answer_alone
        case Thinking.ABSENT:
            return tagged.tag_count == 0


def _is_json(answer: str) -> bool:
    fenced = _FENCED.match(answer)
    content = fenced[1].strip() if fenced else answer
    if normalize_text(content) == "none":
        return True
    try:
        found = json.loads(content, parse_int=float, parse_constant=_refuse)  # float: ints of 5,000 digits are refused
    except (ValueError, RecursionError):  # not JSON; brackets nested thousands deep
        return False
    return isinstance(found, list | dict)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
