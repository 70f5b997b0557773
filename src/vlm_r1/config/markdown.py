"""Writes the reference of all options as Markdown, from the schema: `vlm-r1 config` and docs/configuration.md."""

# pyright: standard

from __future__ import annotations

import enum
import shlex
import textwrap
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, JsonValue
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from vlm_r1.config.base import TableName
from vlm_r1.config.load import _section_of
from vlm_r1.config.schema import Config
from vlm_r1.errors import ConfigError
from vlm_r1.registry import suggestion


def reference() -> str:
    """Return one Markdown table for each section, with dotted key, type, default and meaning."""
    return "\n".join(_section(Config, "", "Recipe")) + "\n"


def explain(key: str) -> str:
    """Return what the reference says of one option, or of each option of a section, as plain text.

    Args:
        key: dotted, e.g. "training.save_steps", or its last word. Dashes before it, and what stands behind an equals
            sign, do not count. In a list any number stands for an item, in a mapping any name.

    Raises:
        ConfigError: there is no such option; the message has the closest one.
    """
    wanted, known = key.lstrip("-").partition("=")[0].strip("."), _options(Config, "")
    named = [one for one in known if _fits(one.split("."), wanted.split("."))]
    if not named and "." not in wanted:
        named = [one for one in known if one.rpartition(".")[2] == wanted and not one.startswith("data.eval.")]
    if not named:
        last = {one.rpartition(".")[2]: one for one in reversed(known)}
        word = wanted.rpartition(".")[2]
        close = suggestion(last.get(word, wanted), known) or suggestion(word, last)
        raise ConfigError(
            f'unknown option "{wanted:.100}". {close}`vlm-r1 config` lists all, `vlm-r1 config training` a section'
        )
    inside = [one for one in known if one.startswith(tuple(f"{name}." for name in named))]
    blocks = [_explained(one, known[one]) for one in (*named, *inside)]
    if len(blocks) == 1:
        blocks.append(_override(wanted if _fits(named[0].split("."), wanted.split(".")) else named[0], known[named[0]]))
    return "\n\n".join(blocks)


def _options(section: type[BaseModel], prefix: str) -> dict[str, FieldInfo]:
    """Return all options of a section and of those in it, by their dotted keys."""
    found: dict[str, FieldInfo] = {}
    for name, field in section.model_fields.items():
        found[f"{prefix}{name}"] = field
        inner = _section_of(field.annotation)
        if inner is not None and inner is not section:
            found |= _options(inner, f"{prefix}{name}{_item(field)}")
    return found


def _item(field: FieldInfo) -> str:
    """Return what stands between a section and the options in it: the items of a list are numbered, others named."""
    return {list: ".0.", dict: ".<name>."}.get(typing.cast(Any, typing.get_origin(field.annotation)), ".")


def _fits(key: Sequence[str], wanted: Sequence[str]) -> bool:
    return len(key) == len(wanted) and all(
        one == other or (one == "0" and other.isdecimal()) or one == "<name>"
        for one, other in zip(key, wanted, strict=True)
    )


def _explained(key: str, field: FieldInfo) -> str:
    """Format an option: its key, its type and default, and its meaning."""
    kind, default = (text.replace("\\|", "|").replace("`", "") for text in (_type_of(field), _default(field)))
    has = "" if kind == "section" else ", required" if default == "required" else f", default {default}"
    return "\n".join((key, f"  {kind}{has}", *_wrapped(field)))


def _override(key: str, field: FieldInfo) -> str:
    """Return how a command line sets an option, with its default as the value."""
    default = _default(field).strip("`").replace("'", "")
    value = "VALUE" if default in ("required", "null", "") else default
    return f"vlm-r1 train RECIPE --{key}={shlex.quote(value)}"


def _wrapped(field: FieldInfo) -> list[str]:
    return textwrap.wrap(
        field.description or "", 78, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
    )


def _section(section: type[BaseModel], prefix: str, title: str) -> list[str]:
    about = textwrap.wrap(
        " ".join((section.__doc__ or "").split()), 100, break_on_hyphens=False, break_long_words=False
    )
    lines = [f"## {title}", "", *about, ""]
    lines += ["| option | type | default | meaning |", "|---|---|---|---|"]
    nested = []
    for name, field in section.model_fields.items():
        inner = _section_of(field.annotation)
        key = f"{prefix}{name}"
        lines.append(f"| `{key}` | {_type_of(field)} | {_default(field)} | {field.description} |")
        if inner is not None:
            nested.append((inner, f"{key}{_item(field)}"))
    lines.append("")
    for inner, inner_prefix in nested:
        if inner is section or (inner_prefix.endswith("<name>.") and inner.__name__ == "DataSource"):
            continue  # same fields as data.train.0
        lines += _section(inner, inner_prefix, f"`{inner_prefix.rstrip('.')}`")
    return lines


def _type_of(field: FieldInfo) -> str:
    """The type of a field, or the names that it may have if a table defines them."""
    checks = [getattr(entry, "func", None) for entry in field.metadata]
    known = next((check.known for check in checks if isinstance(check, TableName)), None)
    return _type(field.annotation) if known is None else " \\| ".join((*known, "package.module:Name"))


def _type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " \\| ".join(str(a) for a in arguments)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin in (list, dict):
        return f"{origin.__name__} of {_type(arguments[-1])}"
    if arguments:
        return " \\| ".join("null" if a is type(None) else _type(a) for a in arguments)
    if annotation is JsonValue:
        return "JSON value"
    if issubclass(annotation, enum.Enum):
        return " \\| ".join(str(member.value) for member in annotation)
    return "section" if issubclass(annotation, BaseModel) else annotation.__name__


def _default(field: Any) -> str:
    if field.default is not PydanticUndefined:
        return "null" if field.default is None else f"`{field.default}`"
    if field.default_factory is None:
        return "required"
    value = field.default_factory()
    return "see below" if isinstance(value, BaseModel) else f"`{value}`"
