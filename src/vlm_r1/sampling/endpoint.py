"""Asks a server that speaks OpenAI's protocol (vLLM, SGLang, llama.cpp, hosted ones) instead of a model of ours.

A question ends in an answer or in an `EndpointError`. What may pass by itself is tried again, after ever longer pauses:
a server that is busy, restarts, breaks off or sends what is no answer. What will not pass ends at once. An empty text
is an answer only if the server has counted the tokens of one: otherwise a fault would be scored as a wrong answer.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from threading import Event
from typing import Any
from urllib.parse import urlsplit

from vlm_r1.config.secrets import given_secrets, masked
from vlm_r1.errors import ConfigError, EndpointError, brief
from vlm_r1.runtime.text import visible
from vlm_r1.sampling.base import SamplingParams
from vlm_r1.sampling.endpoint_chat import Reply, chat_request, read_reply
from vlm_r1.sampling.endpoint_http import Response, send

KEY_ENV = "OPENAI_API_KEY"
"""Environment variable of the key if none is named."""

FIRST_WAIT_S, MAX_WAIT_S = 1.0, 60.0
"""Pauses before the second and before late attempts; each is twice the one before, and spread by chance."""

LONGEST_RETRY_AFTER_S = 600.0
"""A server that asks for a longer pause than this has ended our quota; then the evaluation ends too."""

_LIST_TIMEOUT_S = 15.0
_EXCERPT_CHARS = 300
_READ_CHARS = 20_000  # of a text that is shown as an excerpt
_PASSING = (408, 429)  # and all from 500 on
Say = Callable[[str, str], None]
"""Tells people something: of which kind it is, so that each kind is said only once, and a line."""


@dataclass(frozen=True)
class Endpoint:
    """A model on a server.

    Attributes:
        base_url: up to and without "/chat/completions", e.g. "http://localhost:8000/v1".
        model: as the server calls it.
        concurrency: questions at a time.
        timeout_s: the longest time for one answer.
        retries: how often a question is asked again before the evaluation ends.
        api_key_env: environment variable of the key; None: none is sent.
        engine: the program that serves, a key of `endpoint_chat.NEUTRAL`, or any other text.
        chat_template_kwargs: switches of the chat template that it renders questions with.

    Raises:
        ConfigError: a number is too small, or there is no such variable, or no key in it.
    """

    base_url: str
    model: str
    concurrency: int = 8
    timeout_s: float = 300.0
    retries: int = 6
    api_key_env: str | None = None
    engine: str = ""
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.retries < 0 or not self.timeout_s > 0:
            raise ConfigError(
                f"--concurrency {self.concurrency}, --retries {self.retries}, --timeout-s {self.timeout_s}: wanted at "
                "least 1, 0 and more than 0"
            )
        _headers(self)


class _TryAgainError(Exception):
    """A failure that may pass by itself; `wait_s` is the pause that the server asks for."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        self.kind = " ".join(reason.split()[:2])


def make_endpoint(
    url: str,
    model: str | None = None,
    *,
    concurrency: int = 8,
    timeout_s: float = 300.0,
    retries: int = 6,
    api_key_env: str | None = None,
) -> Endpoint:
    """Check an endpoint, and ask the server which models it has, and who it is.

    Args:
        url: "http://host:8000" means "http://host:8000/v1"; other paths are taken as they are.
        api_key_env: default: `OPENAI_API_KEY`, if the environment has it.

    Raises:
        ConfigError: the address makes no sense; see `Endpoint`; or no model is named and the server does not have
            exactly one.
        EndpointError: the server cannot say which models it has.
    """
    api_key_env = api_key_env or (KEY_ENV if os.environ.get(KEY_ENV) else None)
    endpoint = Endpoint(base_of(url), model or "", concurrency, timeout_s, retries, api_key_env)
    try:
        served = served_models(endpoint)
    except EndpointError:
        if model is None:
            raise
        return endpoint  # many a hosted model is not listed
    if model is None and len(served) != 1:
        raise ConfigError(f"--endpoint {endpoint.base_url} serves {_listed(served)}: say which one, --model NAME")
    name = next(iter(served)) if model is None else model
    return replace(endpoint, model=name, engine=served.get(name, ""))


def base_of(url: str) -> str:
    """Return the address of a server without its last slash, and with /v1 if it has no path.

    >>> base_of("http://localhost:8000"), base_of("https://host/openai/v1/chat/completions")
    ('http://localhost:8000/v1', 'https://host/openai/v1')

    Raises:
        ConfigError: it makes no sense, or holds a user, a query or a fragment.
    """
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        parts, whole = None, False
    if parts is None or not whole or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError(f"--endpoint {masked(url):.200}: wanted http://HOST:PORT/v1 or https://…")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(
            f"--endpoint {parts.scheme}://{parts.hostname}: wanted no user, ? or # in the address; a key belongs in an "
            "environment variable (--api-key-env NAME)"
        )
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def served_models(endpoint: Endpoint) -> dict[str, str]:
    """Return the names of the models that a server has, by its `/models`, and whom it says they are owned by.

    Raises:
        EndpointError: it does not say.
    """
    url = f"{endpoint.base_url}/models"
    try:
        response = send(url, None, _headers(endpoint), min(endpoint.timeout_s, _LIST_TIMEOUT_S))
    except OSError as error:
        raise EndpointError(f"{url}: {_cause(error)}. Is the server up, and is this its address?") from error
    try:
        return {str(row["id"]): str(row.get("owned_by", "")) for row in json.loads(response.body)["data"]}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise EndpointError(
            f"{url}: no list of models, but {_status(response)}. Is this the address of an OpenAI-compatible server? "
            "Else say --model NAME"
        ) from error


def ask(
    endpoint: Endpoint,
    messages: Sequence[Mapping[str, Any]],
    params: SamplingParams,
    seed: int,
    *,
    where: str = "",
    stopped: Event | None = None,
    say: Say = lambda kind, text: None,
) -> Reply:
    """Ask a question until there is an answer.

    Args:
        messages: from `chat_messages`.
        seed: decides the draws, as far as the server can, and the lengths of the pauses.
        where: file and line of the record, for messages.
        stopped: set if nobody wants the answer any more; ends a pause.
        say: gets a line about each attempt that failed and is made again.

    Raises:
        EndpointError: there is none, with what was asked, and what the server said.
    """
    stopped, chance = stopped or Event(), random.Random(seed)
    request = chat_request(
        endpoint.model, messages, params, seed, endpoint.engine, switches=endpoint.chat_template_kwargs
    )
    body = json.dumps(request).encode()
    failure, attempt = _TryAgainError("not asked"), 0
    for attempt in range(endpoint.retries + 1):
        if attempt:
            wait_s = max(_pause_s(attempt) * chance.uniform(0.5, 1.0), failure.wait_s)
            say(failure.kind, f"{where}: {failure}. It is asked again in {wait_s:.1f} s")
            stopped.wait(wait_s)
        if stopped.is_set():
            break
        try:
            return _post(endpoint, body, params)
        except _TryAgainError as error:
            failure = error
        except EndpointError as error:
            raise EndpointError(f"{_asked(endpoint, messages, params, where)}: {error}. {_KEPT}") from None
        if failure.wait_s > LONGEST_RETRY_AFTER_S:
            break
    raise EndpointError(
        f"{_asked(endpoint, messages, params, where)}: no answer after {attempt + 1} attempts; the last: {failure}. Is "
        f"the server up and not overloaded (--concurrency {endpoint.concurrency})? {_KEPT}"
    )


_KEPT = "What is answered so far is kept: the same command goes on"


def _headers(endpoint: Endpoint) -> dict[str, str]:
    """The header with the key; `masked` hides it from now on, whoever quotes it."""
    name = endpoint.api_key_env
    if name is None:
        return {}
    if not name.isidentifier() or name not in os.environ:  # not quoted: it may be the key itself, given by mistake
        raise ConfigError(
            "--api-key-env: the environment has no such variable. Wanted the name of a variable, not a key: export it "
            "first"
        )
    key = given_secrets("--api-key-env", {"api_key": f"${name}"})["api_key"].strip()
    if not key or " " in key or not (key.isascii() and key.isprintable()):
        raise ConfigError(f"--api-key-env {name}: the variable is empty, or holds what is no key")
    return {"Authorization": f"Bearer {key}"}


def _post(endpoint: Endpoint, body: bytes, params: SamplingParams) -> Reply:
    try:
        response = send(f"{endpoint.base_url}/chat/completions", body, _headers(endpoint), endpoint.timeout_s)
    except TimeoutError as error:
        raise _TryAgainError(f"no answer within {endpoint.timeout_s:g} s (--timeout-s)") from error
    except OSError as error:
        raise _TryAgainError(_cause(error)) from error
    if response.status in _PASSING or response.status >= 500:
        after = response.retry_after
        asks = f" (Retry-After: {_clean(after)})" if after else ""
        raise _TryAgainError(f"{_status(response)}{asks}", _retry_after_s(after))
    if response.status != 200:
        raise EndpointError(f"{_status(response)}. {_remedy(endpoint, response, params)}")
    try:
        return read_reply(response.body, params.max_completion_length)
    except (ValueError, RecursionError) as error:
        raise _TryAgainError(f"HTTP 200 without an answer: {error}: {_excerpt(response)}") from error


def _remedy(endpoint: Endpoint, response: Response, params: SamplingParams) -> str:
    """What to do about a status that will not pass."""
    said, key = response.body.decode(errors="replace").lower(), endpoint.api_key_env
    if response.status in (401, 403):
        of_key = f"It does not take the key from ${key}" if key else f"No key was sent: export {KEY_ENV}"
        return f"{of_key}, or name another variable, --api-key-env NAME"
    if response.status == 404:
        return f"{_known(endpoint)} The address asked is {endpoint.base_url}/chat/completions"
    if response.status == 413:
        return "The pictures are too large for it: lower --max-pixels"
    if 300 <= response.status < 400:
        return f"It sends on to {_clean(response.location)}, where no key is sent: give --endpoint the right address"
    if "context" in said or "max_model_len" in said or "too long" in said:
        return (
            f"Question and answer do not fit into its context: lower --max-completion-length (now "
            f"{params.max_completion_length}) or --max-pixels, or serve the model with a longer context"
        )
    return "Mend what it names: the model, its limits, or how it is served"


def _known(endpoint: Endpoint) -> str:
    try:
        return f"It serves {_listed(served_models(endpoint))}, asked was {endpoint.model} (--model)."
    except EndpointError as error:
        return f"({error})"


def _listed(served: Mapping[str, str]) -> str:
    names = list(served)
    return _clean(", ".join(names[:20])) + (", …" if len(names) > 20 else "") if names else "no model"


def _retry_after_s(value: str) -> float:
    """Seconds of a Retry-After header, which has a number or a date; 0 if it makes no sense.

    >>> _retry_after_s("2.5"), _retry_after_s("soon"), _retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT")
    (2.5, 0.0, 0.0)
    """
    try:
        seconds = float(value)
        return seconds if seconds > 0 else 0.0  # nan too
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return 0.0


def _pause_s(attempt: int) -> float:
    return min(FIRST_WAIT_S * 2.0 ** (attempt - 1), MAX_WAIT_S)


def _asked(endpoint: Endpoint, messages: Sequence[Mapping[str, Any]], params: SamplingParams, where: str) -> str:
    """Who was asked what, for messages."""
    plain = [message["content"] for message in messages if isinstance(message["content"], str)]
    parts = [part for message in messages if not isinstance(message["content"], str) for part in message["content"]]
    characters = sum(map(len, plain)) + sum(len(part["text"]) for part in parts if part["type"] == "text")
    pictures = sum(part["type"] == "image_url" for part in parts)
    asked = f"{characters} characters, {pictures} pictures, max_tokens {params.max_completion_length}"
    return f"{where + ': ' if where else ''}{endpoint.base_url}, model {endpoint.model}, asked with {asked}"


def _status(response: Response) -> str:
    return f"HTTP {response.status} {_clean(response.reason)}: {_excerpt(response)}"


def _excerpt(response: Response) -> str:
    return _clean(response.body.decode(errors="replace")) or "(an empty body)"


def _cause(error: OSError) -> str:
    return f"{type(error).__name__}: {_clean(str(error)) or 'no reason given'}"


def _clean(text: str) -> str:
    """Secrets are masked before the text is cut, so that no half of one is left."""
    if len(text) > _READ_CHARS:
        text = text[:_READ_CHARS].rpartition(" ")[0]
    return visible(brief(masked(text)))[:_EXCERPT_CHARS]
