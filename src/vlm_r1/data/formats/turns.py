"""Lists of messages with the keys of OpenAI and Hugging Face (`role`, `content`) or of ShareGPT (`from`, `value`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from vlm_r1.data.formats.base import Row, find_answer
from vlm_r1.data.formats.media import path_in
from vlm_r1.data.formats.shown import shown
from vlm_r1.errors import DataError
from vlm_r1.parsing.json_values import is_list, is_object
from vlm_r1.types import IMAGE_TOKEN

_ROLES = {"developer": "system", "human": "user", "gpt": "assistant", "model": "assistant", "bot": "assistant"}
"""Other names of the roles system, user and assistant."""

_LIST_AS_TEXT = re.compile(r"""\s*\[\s*\{\s*["'](?:role|content|from|value)["']\s*:""")
"""Beginning of a list of messages that a table of texts holds as one text."""

_IMAGE_TYPES = ("image", "image_url", "input_image")
_TEXT_TYPES = ("text", "input_text", "output_text")


@dataclass(frozen=True)
class Turns:
    """The content of a list of messages.

    Attributes:
        question: the user's message, with one `<image>` for each image in it.
        names: image paths in the message; empty if they are elsewhere in the row.
        gold: the assistant's message, or None; in ShareGPT's form it may be any JSON value.
        system: the system message, or None.
    """

    question: Any
    names: tuple[str, ...]
    gold: Any
    system: str | None


_ORDERS: tuple[tuple[str, ...], ...] = tuple(
    (*system, "user", *assistant) for system in ((), ("system",)) for assistant in ((), ("assistant",))
)
_FILLED = {"content", "from"}
_WANTED = (
    "; wanted one of the user, a system message before it or none, and one of the assistant after it or none, each "
    'with "role" and "content"'
)


def read_turns(messages: Any, name: str = "the messages are", wanted: str = _WANTED) -> Turns:
    """Read at most one message of the system, one of the user, and at most one of the assistant, in this order.

    Args:
        messages: a list of {"role", "content"}, where the content is a text or a list of {"type": "text" | "image", …};
            or a list of {"from", "value"}; or a text, which is the user's message.
        name, wanted: beginning and end of the error message for another order.

    Raises:
        DataError: another order, several questions (a record is one question), or a content of another kind.
    """
    if isinstance(messages, str):
        if _LIST_AS_TEXT.match(messages):
            raise DataError(f"{name} {shown(messages)}, a text that spells a list; wanted the list itself")
        return Turns(messages, (), None, None)
    whole = is_list(messages) and all(is_object(m) and _FILLED & m.keys() for m in messages)
    roles: tuple[Any, ...] = tuple(map(_role, messages)) if whole else ()
    if roles not in _ORDERS:
        raise DataError(f"{name} {shown(messages)}{wanted}")
    contents = dict(zip(roles, map(_content, messages), strict=True))
    for role in ("system", "assistant"):
        text = contents.get(role, ("",))[0]
        if isinstance(text, str) and IMAGE_TOKEN in text:
            raise DataError(f"the {role}'s message holds an image; wanted text")
    question, names = contents["user"]
    system = contents.get("system", (None,))[0]
    if not isinstance(system, str | None):
        raise DataError(f"the system's message is {shown(system)}, wanted a text")
    return Turns(question, names, contents.get("assistant", (None,))[0], system or None)


def find_gold(row: Row, turns: Turns) -> tuple[Any, tuple[str, ...]]:
    """Return the gold answer, and its keys (none if it is the assistant's message).

    Raises:
        DataError: there is no answer.
    """
    if turns.gold is not None:
        return turns.gold, ()
    value, used = find_answer(row)
    if used == ("completion",) and isinstance(value, list):
        value = read_turns([{"role": "user", "content": ""}, *value]).gold
    return value, used


def _role(message: dict[str, Any]) -> Any:
    role = message.get("role", message.get("from"))
    return _ROLES.get(role, role) if isinstance(role, str) else role


def _content(message: dict[str, Any]) -> tuple[Any, tuple[str, ...]]:
    """Return a text and the paths of its images; ShareGPT's `value` is returned as it is."""
    if "content" not in message:
        if "value" not in message:
            raise DataError(f'the {message["from"]} turn has no "value"')
        return message["value"], ()
    content = message["content"]
    if isinstance(content, str):
        return content, ()
    if not is_list(content) or not all(is_object(item) for item in content):
        raise DataError(
            f'the content is {shown(content)}; wanted a text, or a list of {{"type": "text" or "image", …}}'
        )
    texts: list[str] = []
    names: list[str] = []
    for item in content:
        kind = item.get("type") or next((kind for kind in ("text", "image") if kind in item), None)
        if kind in _IMAGE_TYPES:
            texts.append(IMAGE_TOKEN)
            path = path_in(item)
            names += [path] if path else []
        elif kind in _TEXT_TYPES and isinstance(item.get("text"), str):
            texts.append(item["text"])
        else:
            raise DataError(f'a part of the content is {shown(item)}; wanted "type": "text" with "text", or "image"')
    return "".join(texts), tuple(names)
