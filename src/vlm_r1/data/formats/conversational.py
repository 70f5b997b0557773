"""Lists of messages with roles, as Hugging Face and TRL write them: `prompt` or `messages`, and the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vlm_r1.data.formats.base import Example, Format, Row, make_example, shown
from vlm_r1.errors import DataError
from vlm_r1.types import IMAGE_TOKEN

ANSWER_KEYS = ("completion", "solution", "answer", "ground_truth")
"""Where the answer stands if no assistant's message gives it; the first that is there."""

_TRIES = ("path", "url", "image", "image_url")
"""Keys of an image part under which a path may stand."""


@dataclass(frozen=True)
class Turns:
    """What a list of messages says.

    Attributes:
        question: the user's message, with one `<image>` for each image part.
        names: image paths that stand inside the message; empty if they stand elsewhere in the row.
        gold: the assistant's message, or None.
        system: the system's message, or None.
    """

    question: str
    names: tuple[str, ...]
    gold: str | None
    system: str | None


def read_turns(messages: Any) -> Turns:
    """Read at most one message of the system, one of the user, and at most one of the assistant, in this order.

    Args:
        messages: list of {"role", "content"}, content a text or a list of {"type": "text" | "image", …}; or a text
            alone, then the user's.

    Raises:
        DataError: another order, several questions (a record is one question), or a content of another kind.
    """
    if isinstance(messages, str):
        return Turns(messages, (), None, None)
    whole = isinstance(messages, list) and all(isinstance(m, dict) and "content" in m for m in messages)
    roles = [message.get("role") for message in messages] if whole else []
    order = [role for role in roles if role not in ("system", "assistant")]
    expected = ["system"] * ("system" in roles) + ["user"] + ["assistant"] * ("assistant" in roles)
    if order != ["user"] or roles != expected:
        raise DataError(
            f"the messages are {shown(messages)}; wanted one of the user, a system message before it or none, and one "
            'of the assistant after it or none, each with "role" and "content"'
        )
    texts = {message["role"]: _content(message["content"]) for message in messages}
    for role in ("system", "assistant"):
        if IMAGE_TOKEN in texts.get(role, ("",))[0]:
            raise DataError(f"the {role}'s message holds an image; wanted text")
    question, names = texts["user"]
    return Turns(question, names, texts.get("assistant", (None,))[0], texts.get("system", (None,))[0])


def find_gold(row: Row, turns: Turns) -> tuple[Any, tuple[str, ...]]:
    """The gold answer, and the key it stands under (none if it is the assistant's message).

    Raises:
        DataError: it stands nowhere.
    """
    if turns.gold is not None:
        return turns.gold, ()
    for key in ANSWER_KEYS:
        value = row.get(key)
        if value is not None and key == "completion" and isinstance(value, list):
            value = read_turns([{"role": "user", "content": ""}, *value]).gold
        if value is not None:
            return value, (key,)
    raise DataError(
        f"there is no answer: no message of the assistant, and none of the keys {', '.join(ANSWER_KEYS)}; "
        f"got the keys {', '.join(row)}"
    )


def _recognises(row: Row) -> bool:
    return "prompt" in row or "messages" in row


def _read(row: Row) -> Example:
    """`prompt` or `messages`, and the answer: the assistant's message, or else one of `ANSWER_KEYS`.

    A system message is not asked: the template says how to answer, and a model keeps its own. It is kept as the
    column `system`.
    """
    if row.get("objects") is not None:
        raise DataError('the key "objects" is one of format ms_swift: set format: ms_swift')
    key = "prompt" if row.get("prompt") is not None else "messages"
    turns = read_turns(row[key])
    gold, used = find_gold(row, turns)
    extra = {} if turns.system is None else {"system": turns.system}
    return make_example(row, turns.question, gold, (key, *used), names=turns.names or None, extra=extra)


def _content(content: Any) -> tuple[str, tuple[str, ...]]:
    """Text, and the paths of its images."""
    if isinstance(content, str):
        return content, ()
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise DataError(
            f'the content is {shown(content)}; wanted a text, or a list of {{"type": "text" or "image", …}}'
        )
    texts: list[str] = []
    names: list[str] = []
    for part in content:
        if part.get("type") in ("image", "image_url"):
            texts.append(IMAGE_TOKEN)
            names += _path(part)
        elif part.get("type") == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            raise DataError(f'a part of the content is {shown(part)}; wanted "type": "text" with "text", or "image"')
    return "".join(texts), tuple(names)


def _path(part: dict[str, Any]) -> list[str]:
    """The path of an image part, under one of several keys or one level below; none if it has no path of its own."""
    for value in (part.get(key) for key in _TRIES):
        if isinstance(value, str):
            return [value]
        if isinstance(value, dict):
            return _path(value)
    return []


CONVERSATIONAL = Format("prompt or messages", _recognises, _read)
