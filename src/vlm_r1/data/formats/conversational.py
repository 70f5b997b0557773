"""Lists of messages with roles under `prompt` or `messages`, as Hugging Face, TRL, OpenAI and verl write them."""

from __future__ import annotations

from vlm_r1.data.formats.base import Example, Format, Row, make_example
from vlm_r1.data.formats.turns import find_gold, read_turns
from vlm_r1.errors import DataError


def _recognises(row: Row) -> bool:
    return "prompt" in row or "messages" in row


def _read(row: Row) -> Example:
    """Read `prompt` or `messages`, and the answer from the assistant's message or from another key, e.g. `solution`.

    A system message and earlier turns are given before the question; the system message is also the column `system`.
    """
    if row.get("objects") is not None:
        raise DataError('the key "objects" is one of format ms_swift: set format: ms_swift')
    key = "prompt" if row.get("prompt") is not None else "messages"
    turns = read_turns(row[key])
    gold, used = find_gold(row, turns)
    return make_example(row, turns.question, gold, (key, *used), context=turns.context)


CONVERSATIONAL = Format("prompt or messages", _recognises, _read)
