"""Writes the reference of all options as Markdown, from the schema: `vlm-r1 config` and docs/configuration.md."""

# pyright: standard

from __future__ import annotations

import enum
import textwrap
import typing
from typing import Any

from pydantic import BaseModel, JsonValue
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from vlm_r1.config.base import TableName
from vlm_r1.config.load import _section_of
from vlm_r1.config.schema import Config


def reference() -> str:
    """Return one Markdown table for each section, with dotted key, type, default and meaning."""
    return "\n".join(_section(Config, "", "Recipe")) + "\n"


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
            origin = typing.get_origin(field.annotation)
            nested.append((inner, {list: f"{key}.0.", dict: f"{key}.<name>."}.get(typing.cast(Any, origin), f"{key}.")))
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
