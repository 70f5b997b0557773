"""Secrets in recipes and commands: what is masked where text is written, and values that come from the environment.

An option is secret if its name says key, token, secret, password or the like. Files, pages and messages show `***` as
its value, unless the value is the name of an environment variable, `$NAME`.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, cast

from vlm_r1.errors import ConfigError

MASK = "***"

_SECRET = {
    *("key", "keys", "secret", "secrets", "token", "passphrase", "authorization", "bearer"),
    *("password", "passwords", "passwd", "pwd", "credential", "credentials", "auth", "pat"),
}
_ENDS = ("token", "secret", "password", "passwd", "apikey", "accesskey", "secretkey", "privatekey", "authkey")
_IN_QUERIES = {"sig", "signature", "x-amz-signature", "x-goog-signature"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

_NAME = re.compile(r"""(?<![\w-])([\w-]++)(\\?["'])?\s*([=:])\s*""")
_OPENING = re.compile(r"""\s*[rRbBuU]{0,2}(\\?["'])""")
_CLOSING = {"[": "]", "(": ")", "{": "}"}
_BARE = re.compile(r"""[^\s,;&()\[\]{}"'\\]*""")
_USER_INFO = re.compile(r"(\bhttps?://)[^\s/@\"']+@|(\b\w[\w+.-]*://[^\s/:@\"']+:)[^\s/@\"']+@")
_VARIABLE = re.compile(r"\$(\w+)|\$\{(\w+)\}")
_PLAIN = {"", "none", "null", "true", "false", MASK}
_VERBATIM = ("instruction", "box_instruction")
"""Options of a recipe that are prose for the model; to change them would change what is asked."""

_given_values: set[str] = set()
"""Secrets that this process has given to rewards."""

_NO_SECRETS = ("PWD", "OLDPWD", "SSH_AUTH_SOCK")
"""Variables of the environment whose names only look like those of secrets."""

_LEAST_CHARS_OF_VARIABLES = 12
"""Keys of services are longer; shorter values of the environment may be words."""

_LEAST_CHARS = 6
"""Shorter values may be parts of words; they are masked by the names of their options only."""


def is_secret(name: str) -> bool:
    """Return whether the name of an option says that its value is a secret.

    Counts, such as `max_tokens`, are none, and neither are errors, such as `KeyError`.

    >>> [name for name in ("api_key", "hfToken", "apikey", "max_tokens", "monkey", "KeyError") if is_secret(name)]
    ['api_key', 'hfToken', 'apikey']
    """
    words = [word.lower() for word in _WORD.findall(name)]
    return words[-1:] not in (["error"], ["exception"]) and any(
        word in _SECRET or word.endswith(_ENDS) for word in words
    )


def masked(text: str) -> str:
    """Mask the values of secret options in a text: a reward with options, a URL, an argument, a message.

    Values that were given to rewards as secrets, and those of variables such as OPENAI_API_KEY, are masked wherever
    they stand: an error of a service may quote a key.

    >>> masked('my.rewards:Judge(api_key="sk-1", model="small", token="$HF_TOKEN")')
    'my.rewards:Judge(api_key="***", model="small", token="$HF_TOKEN")'
    >>> masked("https://me:pw@host/a.jsonl?token=abc&part=1")
    'https://***@host/a.jsonl?token=***&part=1'
    """
    return _masked_by_name(without_values(text))


def without_values(text: str) -> str:
    """Mask the values of secrets that are known, and nothing else, in a text that is somebody's own words."""
    for value in (*_given_values, *_values_of_variables()):
        text = text.replace(value, MASK)
    return text


@cache
def _values_of_variables() -> tuple[str, ...]:
    """The secrets in the environment in which this program was started, longest first."""
    named = (value for name, value in os.environ.items() if is_secret(name) and name not in _NO_SECRETS)
    return tuple(sorted({value for value in named if len(value) >= _LEAST_CHARS_OF_VARIABLES}, key=len, reverse=True))


@lru_cache(maxsize=4096)
def _masked_by_name(text: str) -> str:
    text = _USER_INFO.sub(lambda found: f"{found[1] or found[2]}{MASK}@", _in_call(text))
    pieces, at = list[str](), 0
    for found in _NAME.finditer(text):
        if found.start() >= at and _is_assignment(text, found) and (end := _value_end(text, found.end())) > found.end():
            pieces += [text[at : found.end()], _masked_literal(text[found.end() : end])]
            at = end
    return "".join([*pieces, text[at:]])


def masked_tree(value: Any) -> Any:
    """Mask the secrets in a tree of decoded values, such as a recipe, keys included."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        items = cast(Mapping[Any, Any], value).items()
        return {masked(key) if isinstance(key, str) else key: _masked_item(str(key), item) for key, item in items}
    if isinstance(value, list | tuple):
        return [masked_tree(item) for item in cast(Sequence[Any], value)]
    return value


def masked_arguments(arguments: Iterable[str]) -> list[str]:
    """Mask the secrets in the arguments of a command, `--api_key VALUE` included.

    >>> masked_arguments(["score", "--api-key", "sk-1", "--seed", "1"])
    ['score', '--api-key', '***', '--seed', '1']
    """
    shown: list[str] = []
    follows = False
    for argument in arguments:
        shown.append(_masked_literal(argument) if follows and not argument.startswith("--") else masked(argument))
        follows = argument.startswith("--") and "=" not in argument and is_secret(argument.rpartition(".")[2])
    return shown


def given_secrets(where: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Replace `$NAME` and `${NAME}` by the environment's value in options whose names say that they are secret.

    Args:
        where: starts the message, e.g. "rewards".

    Raises:
        ConfigError: there is no such variable; or a value was masked when a file of a run was written.
    """
    return {name: _given(where, name, value) for name, value in options.items()}


def names_variable(options: Mapping[str, Any]) -> bool:
    """Return whether a secret among the options would come from the environment; see `given_secrets`.

    >>> names_variable({"api_key": "$HF_TOKEN"}), names_variable({"model": "$HF_TOKEN"})
    (True, False)
    """
    return any(_names_variable(name, value) for name, value in options.items())


def refuse_masked(tree: Mapping[str, Any], where: str) -> None:
    """Refuse a recipe that holds a masked secret: it is the `config.yaml` of a run.

    Raises:
        ConfigError: says where the mask is and what to do.
    """
    for key, value in tree.items():
        inner = f"{where}.{key}" if where else str(key)
        if isinstance(value, Mapping):
            refuse_masked(cast(Mapping[str, Any], value), inner)
        elif key not in _VERBATIM and MASK in (inner if isinstance(value, float) else str(value)):
            raise ConfigError(_masked_message(inner))


def _given(where: str, name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _given(where, str(key), item) for key, item in cast(Mapping[Any, Any], value).items()}
    if not isinstance(value, str) or not is_secret(name):
        return value
    if value == MASK:
        raise ConfigError(_masked_message(f"{where}: {name}"))
    found = _VARIABLE.fullmatch(value)
    variable = found and (found[1] or found[2])
    if variable and variable not in os.environ:
        raise ConfigError(f"{where}: {name} is ${variable}, but the environment has no {variable}: export it first")
    secret = os.environ[variable] if variable else value
    if len(secret) >= _LEAST_CHARS:
        _given_values.add(secret)
    return secret


def _names_variable(name: str, value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_names_variable(str(key), item) for key, item in cast(Mapping[Any, Any], value).items())
    return isinstance(value, str) and is_secret(name) and _VARIABLE.fullmatch(value) is not None


def _masked_message(where: str) -> str:
    return (
        f"{where} was masked when the file of the run was written, so it must be given again: use the recipe that the "
        'run was started with, or name an environment variable instead, e.g. api_key="$OPENAI_API_KEY"'
    )


def _in_call(text: str) -> str:
    """Mask the options of `name(option=value, …)` by Python's own grammar; other texts are unchanged."""
    name, bracket, rest = text.partition("(")
    if not bracket or not re.fullmatch(r"[\w.:\s-]+", name):
        return text
    source = f"_({rest}".encode()
    try:
        call = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text
    for node in sorted(_secret_values(call), key=lambda node: -(node.col_offset or 0)):
        if node.lineno == node.end_lineno == 1:
            literal = source[node.col_offset : node.end_col_offset].decode()
            shown = _masked_literal(literal) if isinstance(node, ast.Constant) else f'"{MASK}"'
            source = source[: node.col_offset] + shown.encode() + source[node.end_col_offset :]
    return f"{name}{source.decode()[1:]}"


def _secret_values(call: ast.expr) -> list[ast.expr]:
    found: list[ast.expr] = []
    for node in ast.walk(call):
        if isinstance(node, ast.keyword) and node.arg and is_secret(node.arg):
            found.append(node.value)
        if isinstance(node, ast.Dict):
            named = zip(node.keys, node.values, strict=True)
            found += [v for k, v in named if isinstance(k, ast.Constant) and is_secret(str(k.value))]
    outer = {id(inner) for value in found for inner in ast.walk(value) if inner is not value}
    return [value for value in found if id(value) not in outer]


def _is_assignment(text: str, found: re.Match[str]) -> bool:
    """Return whether a match of `_NAME` assigns a secret: `key=`, `"key":` or, as YAML has it, `api_key:`."""
    name, quote, sign = found[1], found[2], found[3]
    before = text[found.start() - 1 : found.start()]
    if sign == "=":
        return is_secret(name) or (before in ("?", "&") and name.lower() in _IN_QUERIES)
    return is_secret(name) and (quote is not None or len(_WORD.findall(name)) > 1)


def _value_end(text: str, at: int) -> int:
    """Index behind the value that starts at `at`: joined string literals, something in brackets, or one word."""
    end, opening = at, _OPENING.match(text, at)
    while opening:
        end = _string_end(text, opening.end(), opening[1])
        opening = _OPENING.match(text, end)
    if end > at:
        return end
    if closing := _CLOSING.get(text[at : at + 1]):
        found = text.find(closing, at)
        return len(text) if found < 0 else found + 1
    word = _BARE.match(text, at)
    return word.end() if word else at


def _string_end(text: str, at: int, quote: str) -> int:
    """Index behind the end of a string literal, or of the text; `at` lies behind its opening quote."""
    while (at := text.find(quote, at)) >= 0:
        before = text[max(at - 64, 0) : at]
        if quote[0] == "\\" or (len(before) - len(before.rstrip("\\"))) % 2 == 0:
            return at + len(quote)
        at += 1
    return len(text)


def _masked_literal(text: str) -> str:
    bare = text.strip("\"'")
    if _VARIABLE.fullmatch(bare) or bare.lower() in _PLAIN:
        return text
    return f'"{MASK}"' if bare != text else MASK


def _masked_item(key: str, value: Any) -> Any:
    if isinstance(value, str) and key in _VERBATIM:
        return value
    return _masked_literal(value) if isinstance(value, str) and is_secret(key) else masked_tree(value)
