"""The messages before a question, as files of a run hold them: `Record.context` as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

from vlm_r1.parsing.json_values import is_list, is_object
from vlm_r1.types import Turn

_ROLES = ("system", "user", "assistant")


def is_context(value: object) -> TypeGuard[list[dict[str, str]]]:
    """Return whether a decoded value is a list of messages, each with a known `role` and a text as `content`.

    >>> is_context([{"role": "system", "content": "Be brief."}]), is_context([{"role": "tool", "content": "7"}])
    (True, False)
    """
    return is_list(value) and all(
        is_object(one) and one.keys() == {"role", "content"} and one["role"] in _ROLES and type(one["content"]) is str
        for one in value
    )


def split_context(context: Sequence[dict[str, str]]) -> tuple[str | None, tuple[Turn, ...]]:
    """Return the system message, None if there is none, and the earlier turns: the inverse of `Record.context`.

    >>> split_context([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Red?"}])
    ('Be brief.', (Turn(role='user', text='Red?'),))
    """
    system = next((one["content"] for one in context if one["role"] == "system"), None)
    turns = (Turn("user" if one["role"] == "user" else "assistant", one["content"]) for one in context)
    return system, tuple(turn for turn, one in zip(turns, context, strict=True) if one["role"] != "system")
