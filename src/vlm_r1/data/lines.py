"""Records → lines of the VLM-R1 format (docs/data.md), which `formats/vlm_r1.py` reads."""

from __future__ import annotations

import json

from vlm_r1.parsing.tags import ANSWER, END_ANSWER, END_THINK, THINK
from vlm_r1.types import AnswerValue, Record

_FROM = {"user": "human", "assistant": "gpt"}


def vlm_r1_line(record: Record, **columns: AnswerValue) -> dict[str, AnswerValue]:
    """Make the line of a record, with absolute image paths and boxes in pixels of the upright image.

    A column `system` that is not asked is left out: in this format it would be.

    Args:
        columns: keys to add; they replace columns of the record with the same name.
    """
    images = list(record.images)
    system: list[AnswerValue] = [{"from": "system", "value": record.system}] if record.system else []
    turns = ((_FROM[turn.role], turn.text) for turn in record.history)
    history: list[AnswerValue] = [{"from": role, "value": text} for role, text in turns]
    asked: list[AnswerValue] = [{"from": "human", "value": record.problem}, {"from": "gpt", "value": _gold(record)}]
    line: dict[str, AnswerValue] = {
        "id": record.id,
        "image": images[0] if len(images) == 1 else [*images],
        "conversations": [*system, *history, *asked],
    }
    if record.reward is not None:
        line["accu_reward_method"] = record.reward
    kept = {key: value for key, value in record.columns.items() if key != "system" or value == record.system}
    return line | kept | columns


def _gold(record: Record) -> AnswerValue:
    """The answer; if there is a thought, both in tags."""
    if record.thought is None:
        return record.answer
    answer = record.answer if isinstance(record.answer, str) else json.dumps(record.answer, ensure_ascii=False)
    return f"{THINK}{record.thought}{END_THINK}{ANSWER}{answer}{END_ANSWER}"
