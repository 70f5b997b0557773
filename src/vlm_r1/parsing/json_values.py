"""The kinds of decoded JSON: `isinstance`, but the type checker learns what an object and a list hold."""

from __future__ import annotations

from typing import Any, TypeGuard


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Return whether a decoded value is a JSON object.

    >>> is_object({"a": 1}), is_object([1])
    (True, False)
    """
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Return whether a decoded value is a JSON list.

    >>> is_list([1]), is_list("[1]")
    (True, False)
    """
    return isinstance(value, list)
