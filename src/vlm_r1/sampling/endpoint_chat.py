"""A question and an answer as OpenAI's chat completions have them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from vlm_r1.parsing.json_values import is_list, is_object
from vlm_r1.parsing.tags import END_THINK, THINK
from vlm_r1.runtime.text import writable
from vlm_r1.sampling.base import SamplingParams
from vlm_r1.types import IMAGE_TOKEN, Prompt, StopReason

_ENDS: Mapping[str | None, StopReason] = {
    None: StopReason.STOP,
    "stop": StopReason.STOP,
    "eos_token": StopReason.STOP,
    "stop_sequence": StopReason.STOP,
    "length": StopReason.LENGTH,
    "content_filter": StopReason.REFUSED,
    "tool_calls": StopReason.REFUSED,  # it called a tool that nobody offered
}
"""Reasons in `finish_reason`; others, e.g. "abort", mean that something went wrong."""


NEUTRAL: Mapping[str, Mapping[str, float]] = {
    "vllm": {"repetition_penalty": 1.0, "top_k": -1, "min_p": 0.0},
    "sglang": {"repetition_penalty": 1.0, "top_k": -1, "min_p": 0.0},
    "llamacpp": {"repeat_penalty": 1.0, "top_k": 0, "min_p": 0.0},
}
"""Settings that servers else take from the checkpoint's generation config, or have defaults for; by `owned_by` of their
lists of models. Qwen2.5-VL's config has a penalty for repetition, which changes greedy answers too."""


@dataclass(frozen=True)
class Reply:
    """What a server answered.

    Attributes:
        text: with the thought in its tags, if the server has taken it apart; "" if it refused.
        tokens: length of the text in tokens, and prompt_tokens that of the question, by the server; None: not said.
    """

    text: str
    stop_reason: StopReason
    tokens: int | None
    prompt_tokens: int | None


def chat_content(text: str, images: Sequence[Image.Image]) -> list[dict[str, Any]]:
    """Return a user's turn as OpenAI's protocol has it: its texts, and where `<image>` is, a picture as a PNG.

    The same pieces in the same order go into the chat template for a model of ours (`Adapter.render`).

    >>> chat_content("Is it <image> red?", [Image.new("RGB", (1, 1))])[::2]
    [{'type': 'text', 'text': 'Is it '}, {'type': 'text', 'text': ' red?'}]
    """
    first, *rest = text.split(IMAGE_TOKEN)
    content: list[dict[str, Any]] = [{"type": "text", "text": first}] if first else []
    for image, after in zip(images, rest, strict=True):
        content.append({"type": "image_url", "image_url": {"url": _data_uri(image)}})
        content += [{"type": "text", "text": after}] if after else []
    return content


def chat_messages(prompt: Prompt, images: Sequence[Image.Image]) -> list[dict[str, Any]]:
    """Return a prompt as OpenAI's messages: the system's, earlier turns, and the question, each with its pictures.

    >>> chat_messages(Prompt("Is it red?", (), "Be brief."), [])[0]
    {'role': 'system', 'content': 'Be brief.'}
    """
    left = iter(images)
    messages: list[dict[str, Any]] = [{"role": "system", "content": prompt.system}] if prompt.system else []
    for role, text in prompt.turns:
        own = [next(left) for _ in range(text.count(IMAGE_TOKEN))]
        messages.append({"role": role, "content": chat_content(text, own) if role == "user" else text})
    return messages


def chat_request(
    model: str,
    messages: Sequence[Mapping[str, Any]],
    params: SamplingParams,
    seed: int,
    engine: str = "",
    *,
    switches: Mapping[str, Any] = {},
) -> dict[str, Any]:
    """Return the body of a request, in which nothing is left to the server's own settings, as far as it is known.

    Args:
        messages: from `chat_messages`.
        switches: of the chat template; vLLM, SGLang and llama.cpp read them under this name.
        engine: a key of `NEUTRAL`. Other servers get filters only if they have an effect: many refuse what they do not
            know.
    """
    filters = {name: value for name, value in (("top_k", params.top_k), ("min_p", params.min_p)) if value}
    drawn = {"top_p": params.top_p, **filters, "seed": seed % 2**31} if params.temperature else {}
    return {
        "model": model,
        "messages": list(messages),
        "temperature": params.temperature,
        "max_tokens": params.max_completion_length,
        **NEUTRAL.get(engine, {}),
        **_penalty(params.repetition_penalty, engine),
        **drawn,
        **({"chat_template_kwargs": dict(switches)} if switches else {}),
    }


def _penalty(penalty: float, engine: str) -> dict[str, float]:
    """The penalty for repetition by the server's own name; an unknown server gets vLLM's, and may refuse it.

    llama.cpp looks at the last 64 tokens, unless it is told to look at all (-1).
    """
    if penalty == 1:
        return {}
    return {"repeat_penalty": penalty, "repeat_last_n": -1} if engine == "llamacpp" else {"repetition_penalty": penalty}


def read_reply(body: bytes, max_tokens: int) -> Reply:
    """Read a chat completion.

    Args:
        max_tokens: that were asked for; so many, and no `finish_reason`, are an answer that was cut off.

    Raises:
        ValueError, RecursionError: it is none, or not the answer to one question.
    """
    content = json.loads(body)
    choices = content.get("choices") if is_object(content) else None
    if not is_list(choices) or len(choices) != 1:
        raise ValueError(f"{len(choices) if is_list(choices) else 'no'} choices, wanted 1")
    choice = choices[0]
    message = choice.get("message") if is_object(choice) else None
    if not is_object(choice) or not is_object(message):
        raise ValueError("no message")
    end, text = choice.get("finish_reason"), message.get("content")
    thought = message.get("reasoning_content") or message.get("reasoning")
    if not isinstance(end, str | None) or end not in _ENDS or not isinstance(text, str | None):
        raise ValueError(f"finish_reason {end!r:.50} and a content of type {type(text).__name__}")
    usage = content.get("usage")
    tokens, prompt_tokens = (_count(usage, name) for name in ("completion_tokens", "prompt_tokens"))
    stop = _ENDS[end]
    if end is None and tokens is not None and tokens >= max_tokens:
        stop = StopReason.LENGTH
    if isinstance(thought, str) and thought:
        text = _whole(thought, text or "", stop)
    if text is None or stop is StopReason.REFUSED:
        return Reply("", StopReason.REFUSED, tokens, prompt_tokens)
    if not text and not tokens:
        raise ValueError("an empty text, of which no tokens were counted")
    return Reply(writable(text), stop, tokens, prompt_tokens)


def _whole(thought: str, text: str, stop: StopReason) -> str:
    """Put a thought before its answer again; one that was cut off is not closed."""
    return f"{THINK}{thought}{'' if stop is StopReason.LENGTH and not text else END_THINK}{text}"


def _count(usage: object, name: str) -> int | None:
    count = usage.get(name) if is_object(usage) else None
    return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None


def _data_uri(image: Image.Image) -> str:
    """A picture without metadata: a server would turn it by its EXIF tag once more."""
    file = io.BytesIO()
    bare = image.convert("RGB")
    Image.frombytes("RGB", bare.size, bare.tobytes()).save(file, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
