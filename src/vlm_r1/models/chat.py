"""A prompt as messages of a chat template, and the switches that a template has.

A template is a program of the checkpoint. It may have no system role, or leave earlier turns out; what it left out is
found in what it wrote.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jinja2 import TemplateError
from jinja2.meta import find_undeclared_variables
from transformers import PreTrainedTokenizerBase, ProcessorMixin
from transformers.utils.chat_template_utils import _compile_jinja_template  # pyright: ignore[reportPrivateUsage]

from vlm_r1.errors import ConfigError, ModelError
from vlm_r1.parsing.tags import END_THINK
from vlm_r1.types import IMAGE_TOKEN, Prompt

OPTION = "data.chat_template_kwargs"

_LIST = "{'type': 'text'"
"""How a template begins that writes a list as it is."""

Message = dict[str, Any]
"""{"role": …, "content": [{"type": "text", "text": …}, {"type": "image"}, …]}."""


def chat_messages(prompt: Prompt, images: Iterable[Mapping[str, Any]]) -> list[Message]:
    """Return a prompt as messages: the system's, if there is one, earlier turns, and the question.

    Args:
        images: what stands for each image, in order, e.g. {"type": "image"}.

    >>> chat_messages(Prompt("Is it <image> red?", ("a.png",), system="Be brief."), [{"type": "image"}])[1]["content"]
    [{'type': 'text', 'text': 'Is it '}, {'type': 'image'}, {'type': 'text', 'text': ' red?'}]
    """
    left = iter(images)
    system = [("system", prompt.system)] if prompt.system else []
    return [{"role": role, "content": _parts(text, left)} for role, text in (*system, *prompt.turns)]


def with_plain_context(messages: list[Message]) -> list[Message]:
    """Return the messages with the content of those before the question as texts, where they have no image.

    Some templates take the system's message and answers as texts only.
    """
    plain = [all(part["type"] == "text" for part in message["content"]) for message in messages[:-1]]
    return [
        {**message, "content": "".join(part["text"] for part in message["content"])} if is_plain else message
        for message, is_plain in zip(messages, [*plain, False], strict=True)
    ]


def with_images(messages: list[Message], images: Iterable[Any]) -> list[Message]:
    """Return the messages with these pictures in the places of their images."""
    left = iter(images)

    def shown(content: Any) -> Any:
        if isinstance(content, str):
            return content
        return [{"type": "image", "image": next(left)} if part["type"] == "image" else part for part in content]

    return [{**message, "content": shown(message["content"])} for message in messages]


def _parts(text: str, images: Iterator[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    first, *rest = text.split(IMAGE_TOKEN)
    parts: list[Mapping[str, Any]] = [{"type": "text", "text": first}] if first else []
    for after in rest:
        parts.append(next(images))
        parts += [{"type": "text", "text": after}] if after else []
    return parts


def with_long_texts(prompt: Prompt) -> Prompt:
    """Return a prompt with the same messages but other texts, which a template cannot write by chance, as it can "no".

    >>> with_long_texts(Prompt("<image>Red?", ("a.png",), "Be brief.")).system
    'message 0 of this test'
    """
    texts = [f"message {number} of this test" for number in range(len(prompt.turns) + 1)]
    history = tuple(turn._replace(text=text) for turn, text in zip(prompt.history, texts[1:], strict=False))
    return Prompt(texts[-1], (), prompt.system and texts[0], history)


def check_all_said(prompt: Prompt, rendered: str) -> None:
    """Check that a chat template wrote the system message and all turns, in their order.

    A template may cut the thought off an earlier answer, up to `</think>`: the makers of such models want that.

    Raises:
        ModelError: it left one out, or wrote the list of a message's parts instead of their texts.
    """
    if not (prompt.system or prompt.history):
        return
    if _LIST in rendered and not any(_LIST in text for text in (prompt.system or "", *(t.text for t in prompt.turns))):
        raise ModelError("the checkpoint's chat template writes a message's list of parts instead of their texts")
    place = 0
    if prompt.system:
        place = _after(prompt.system, rendered, 0)
        if place < 0:
            raise ModelError(
                f"the checkpoint's chat template does not write the system message {prompt.system[:60]!r}: it has no "
                "system role. Put these words into the template of the question instead (data.templates), and leave "
                "data.system_prompt or the row's system message out"
            )
    for number, (role, text) in enumerate(prompt.turns, start=1):
        answer = text.rpartition(END_THINK)[2] if role == "assistant" else text
        for piece in answer.split(IMAGE_TOKEN):
            place = _after(piece, rendered, place)
            if place < 0:
                raise ModelError(
                    f"the checkpoint's chat template does not write turn {number} of {len(prompt.turns)}, "
                    f"{role} {piece[:60]!r}, in its place: it knows no earlier turns. Drop the record's earlier turns, "
                    "or take a chat template with several turns"
                )


def _after(piece: str, rendered: str, place: int) -> int:
    """Return where a text ends in what was rendered from a place on; −1 if it is not there. Templates may trim it."""
    piece = piece.strip()
    found = rendered.find(piece, place)
    return found if found < 0 else found + len(piece)


def template_switches(tokenizer: Any) -> frozenset[str]:
    """Return the names that the tokenizer's chat template reads beside those that transformers and we give it.

    Raises:
        ModelError: the template cannot be read.
    """
    try:
        template = tokenizer.get_chat_template()
        environment = _compile_jinja_template(template).environment
        read = find_undeclared_variables(environment.parse(template))
    except (TemplateError, ValueError, RecursionError) as error:
        raise ModelError(
            f"the checkpoint's chat template cannot be read: {type(error).__name__}: {str(error)[:200]} (wanted "
            "chat_template.jinja of the original checkpoint)"
        ) from error
    return frozenset(read - given_by_us(tokenizer))


def given_by_us(tokenizer: Any) -> set[str]:
    """Return the names of arguments and variables of a chat template that are not a user's to set."""
    kinds: tuple[Any, ...] = (PreTrainedTokenizerBase, ProcessorMixin)
    arguments = {name for kind in kinds for name in inspect.signature(kind.apply_chat_template).parameters}
    return {"messages", *arguments, *tokenizer.special_tokens_map}


def check_switches(tokenizer: Any, switches: Mapping[str, Any], source: str) -> None:
    """Check that the chat template reads every switch of `data.chat_template_kwargs`.

    Raises:
        ConfigError: it does not read one, or it is not a user's to set; names those that the template has.
        ModelError: the template cannot be read.
    """
    if not switches:
        return
    known = template_switches(tokenizer)
    has = f"it has {', '.join(sorted(known))}" if known else "it has none"
    for name in switches:
        if name in given_by_us(tokenizer):
            raise ConfigError(f"{OPTION}.{name}: is set by the program itself; remove it")
        if name not in known:
            raise ConfigError(
                f"{OPTION}.{name}: has no effect, because the chat template of {source} reads no such switch; {has}"
            )
