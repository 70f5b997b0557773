"""Lists of messages with the keys of OpenAI and Hugging Face (`role`, `content`) or of ShareGPT (`from`, `value`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from vlm_r1.data.formats.base import Context, Row, find_answer
from vlm_r1.data.formats.media import path_in
from vlm_r1.data.formats.shown import shown
from vlm_r1.errors import DataError
from vlm_r1.parsing.json_values import is_list, is_object
from vlm_r1.types import IMAGE_TOKEN, Turn

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
        question: the last message of the user, with one `<image>` for each image in it.
        gold: the assistant's message after it, or None; in ShareGPT's form it may be any JSON value.
        answered: whether there is a message after it.
        context: the system message and earlier turns, and the image paths of all messages.
    """

    question: Any
    gold: Any
    context: Context
    answered: bool = False


_FILLED = {"content", "from"}
_WANTED = (
    "; wanted the user and the assistant by turns, a system message before them or none, and the user's question at "
    'the end, with its answer or without, each with "role" and "content"'
)


def read_turns(messages: Any, name: str = "the messages are", wanted: str = _WANTED) -> Turns:
    """Read [system] (user assistant)* user [assistant]; the last question is asked, what stands before it is given.

    Args:
        messages: a list of {"role", "content"}, where the content is a text or a list of {"type": "text" | "image", …};
            or a list of {"from", "value"}; or a text, which is the user's message.
        name, wanted: beginning and end of the error message for another order.

    Raises:
        DataError: another order, or a content of another kind.
    """
    if isinstance(messages, str):
        if _LIST_AS_TEXT.match(messages):
            raise DataError(f"{name} {shown(messages)}, a text that spells a list; wanted the list itself")
        return Turns(messages, None, Context())
    whole = is_list(messages) and all(is_object(m) and _FILLED & m.keys() for m in messages)
    roles: list[Any] = list(map(_role, messages)) if whole else []
    first = int(roles[:1] == ["system"])
    n_turns = len(roles) - first
    if not n_turns or roles[first:] != (["user", "assistant"] * n_turns)[:n_turns]:
        raise DataError(f"{name} {shown(messages)}{wanted}")
    contents = [_content(message) for message in messages]
    asked = len(contents) - 1 - (roles[-1] == "assistant")
    system = _text(contents[0][0], "the system's message") if first else None
    history = tuple(
        Turn(role, _text(content, f"an earlier message of the {role}", may_show=role == "user"))
        for role, (content, _) in zip(roles[first:asked], contents[first:asked], strict=True)
    )
    gold = contents[-1][0] if roles[-1] == "assistant" else None
    if isinstance(gold, str) and IMAGE_TOKEN in gold:
        raise DataError("the assistant's message holds an image; wanted text")
    names = tuple(name for _, own in contents for name in own)
    return Turns(contents[asked][0], gold, Context(names, system or None, history), asked < len(contents) - 1)


def read_pairs(history: Any) -> tuple[Turn, ...]:
    """Read earlier turns as ms-swift and Alpaca's followers write them: [[question, answer], …].

    Raises:
        DataError: it is no such list.
    """
    pairs = history if is_list(history) else [history]
    if not all(is_list(pair) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in pairs):
        raise DataError(f'"history" is {shown(history)}; wanted earlier turns [[question, answer], …], or no such key')
    messages = [{"role": role, "content": text} for pair in pairs for role, text in zip(_PAIR, pair, strict=True)]
    return read_turns([*messages, {"role": "user", "content": ""}]).context.history


_PAIR = ("user", "assistant")


def _text(content: Any, what: str, *, may_show: bool = False) -> str:
    if not isinstance(content, str):
        raise DataError(f"{what} is {shown(content)}, wanted a text")
    if IMAGE_TOKEN in content and not may_show:
        raise DataError(f"{what} holds an image; wanted text")
    return content


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
