"""Reads a recipe from YAML and dotted overrides. Errors name the key and say what to do."""

# pyright: standard

from __future__ import annotations

import os
import re
import reprlib
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from vlm_r1.config.schema import Config
from vlm_r1.config.secrets import masked_tree
from vlm_r1.config.yaml_text import NO_YAML, read_yaml
from vlm_r1.errors import ConfigError
from vlm_r1.files import read_text
from vlm_r1.registry import suggestion

_SHOWN_CHARS = 200


def load_config(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Config:
    """Read a recipe, apply `--a.b=value` overrides and validate.

    Args:
        path: YAML file.
        overrides: e.g. ["--model.path=ckpt", "--data.train.0.path=my.jsonl"]; see `parse_overrides`.

    Raises:
        ConfigError: missing or broken file, unknown key (with a suggestion), invalid value or option without effect.
    """
    tree = _read_tree(path)
    for keys, value in parse_overrides(overrides):
        _assign(tree, keys, value)
    return validate(tree, where=str(path))


def _read_tree(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        tree = read_yaml(read_text(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the recipe: {error.strerror}") from error
    except NO_YAML as error:
        raise ConfigError(f"{path}: not valid YAML: {_cut(str(error), 1000)}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: wanted a mapping of sections (model, data, …), got {type(tree).__name__}")
    return tree


def make_config(
    recipe: Config | Mapping[str, Any] | str | os.PathLike[str], overrides: Mapping[str, Any] | None = None
) -> Config:
    """Make a config of a recipe as a Python program has it, with the values of some options.

    Args:
        recipe: a config, a tree of sections, or the path of a YAML file.
        overrides: values by dotted names, e.g. {"training.max_steps": 3, "data.train.0.path": Path("my.jsonl")}. They
            are taken as they are, not read as YAML.

    Raises:
        ConfigError: see `load_config`; or `recipe` is something else.
    """
    if isinstance(recipe, str | os.PathLike):
        tree, where = _read_tree(recipe), str(recipe)
    elif isinstance(recipe, Config | Mapping):
        tree = recipe.model_dump(mode="json") if isinstance(recipe, Config) else dict(recipe)
        where = "recipe"
    else:
        raise ConfigError(f"wanted a recipe as a path, a mapping or a Config, got {type(recipe).__name__}")
    tree = _plain(tree)
    for name, value in (overrides or {}).items():
        if not isinstance(name, str) or not name or name.startswith("-"):
            raise ConfigError(f'overrides: wanted names such as "training.max_steps", got {_cut(repr(name))}')
        _assign(tree, name.split("."), _plain(value))
    return validate(tree, where=where)


def _plain(value: Any) -> Any:
    """Copy a tree of values, paths as texts."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def validate(tree: dict[str, Any], where: str) -> Config:
    """Validate a plain tree of values and return the config.

    Raises:
        ConfigError: starts with `where` and names the key.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{where}: {_explain(e)}" for e in error.errors())) from None


def as_dict(config: Config) -> dict[str, Any]:
    """Return the resolved config as plain JSON values, every default included; secrets are masked."""
    return masked_tree(config.model_dump(mode="json"))


def save_config(config: Config, path: str | os.PathLike[str]) -> None:
    """Write the resolved config as YAML that `load_config` reads back to an equal value, but for masked secrets."""
    Path(path).write_text(yaml.safe_dump(as_dict(config), sort_keys=False, allow_unicode=True), encoding="utf-8")


def parse_overrides(arguments: Sequence[str]) -> list[tuple[list[str], Any]]:
    """Split `--a.b=1` or `--a.b 1` into keys and values.

    The value of a text option is taken literally, except that `null` is None where the option may be null. All other
    values are YAML.

    >>> parse_overrides(["--grpo.beta=0.04", "--data.train.0.path", "x: #2.jsonl"])
    [(['grpo', 'beta'], 0.04), (['data', 'train', '0', 'path'], 'x: #2.jsonl')]
    """
    overrides, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("--"):
            raise ConfigError(f'unexpected argument "{argument}"; overrides read --section.option=value')
        name, equals, text = argument[2:].partition("=")
        if not equals:
            if not rest:
                raise ConfigError(f'"{argument}" has no value; overrides read --section.option=value')
            text = rest.pop(0)
        try:
            overrides.append((name.split("."), _value(name.split("."), text)))
        except NO_YAML as error:
            raise ConfigError(f'"{_cut(argument)}": the value is not valid YAML: {_cut(str(error))}') from error
    return overrides


def _value(keys: Sequence[str], text: str) -> Any:
    """Convert the text of an override to a value of the option's type."""
    members = _members(_type_at(keys))
    if members and all(_is_text(member) for member in members if member is not NoneType):
        return None if text == "null" and NoneType in members else text
    value, node = read_yaml(text), yaml.compose(text, Loader=yaml.SafeLoader)
    if node is not None and "#" in text[node.end_mark.index :]:
        raise ValueError(f"{text[node.end_mark.index :].strip()!r} would be left out as a comment")
    return value if text else text


def _members(annotation: Any) -> tuple[Any, ...]:
    """The members of an optional type; any other type is its own only member; None has none."""
    if annotation is None:
        return ()
    arguments = get_args(annotation)
    return arguments if NoneType in arguments else (annotation,)


def _is_text(annotation: Any) -> bool:
    """Return whether an annotation means texts: str, a choice of texts, or an enumeration."""
    if get_origin(annotation) is Literal:
        return all(isinstance(choice, str) for choice in get_args(annotation))
    return isinstance(annotation, type) and issubclass(annotation, str | Enum)


def _type_at(keys: Sequence[str]) -> Any:
    """The annotation of an option, found through sections, lists and mappings; None if there is no such option."""
    found: Any = Config
    for key in keys:
        section = next((m for m in _members(found) if isinstance(m, type) and issubclass(m, BaseModel)), None)
        inner = next((get_args(m)[-1] for m in _members(found) if get_origin(m) in (list, dict)), None)
        field = section.model_fields.get(key) if section else None
        found = field.annotation if field else inner
    return found


def _assign(tree: Any, keys: list[str], value: Any) -> None:
    node = tree
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(node, list):
            index = int(key) if _is_index(key) else -1
            if not 0 <= index <= len(node):
                raise ConfigError(
                    f"--{'.'.join(keys)}: wanted an index 0 to {len(node)} (one more appends), got {key!r}"
                )
            if index == len(node):
                node.append({})
            node[index] = value if last else node[index]
            node = node[index]
        elif isinstance(node, dict):
            if last:
                node[key] = value
            elif node.get(key) is None:
                node[key] = [] if _is_index(keys[depth + 1]) else {}
            node = node[key]
        else:
            raise ConfigError(f"--{'.'.join(keys)}: {'.'.join(keys[:depth])} has no options inside")


def _is_index(key: str) -> bool:
    return re.fullmatch("[0-9]{1,9}", key) is not None


def _cut(text: str, limit: int = _SHOWN_CHARS) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"


def _explain(error: Any) -> str:
    location = [_cut(str(key)) for key in error["loc"]]
    dotted = ".".join(location)
    if error["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        return f'unknown key "{dotted}". {suggestion(location[-1], known)}Known here: {", ".join(known)}.'
    if error["type"] == "missing":
        return f"{dotted} is missing: set it in the recipe, or by --{dotted}=…"
    message = error["msg"].removeprefix("Value error, ")
    got = "" if error["type"] == "value_error" else f", got {_cut(reprlib.repr(error['input']))}"
    return f"{dotted}: {message}{got}" if dotted else message


def _known_keys(location: list[str]) -> list[str]:
    """Field names of the section at `location`, walking through lists, mappings and optional sections."""
    section: type[BaseModel] = Config
    for key in location:
        field = section.model_fields.get(key)
        inner = _section_of(field.annotation) if field is not None else None
        section = inner or section
    return list(section.model_fields)


def _section_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for a in get_args(annotation) if (found := _section_of(a))), None)
