"""The base class of all sections of a recipe, and types for numbers with a range and for paths."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from vlm_r1.registry import plain_name, suggestion

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(gt=0, le=1)]


def _path(text: str) -> str:
    if "\0" in text:
        raise ValueError("a path has no NUL character")
    return os.path.expanduser(text)


PathText = Annotated[str, AfterValidator(_path)]
"""A path, a URL or a name on the Hub; a leading ~ is replaced by the home folder."""


PlainName = Annotated[str, AfterValidator(plain_name)]
"""A name of letters, digits, `_`, `-` and `.`, since files are named by it."""


@dataclass(frozen=True)
class TableName:
    """Validates a text that names an entry of a table, or an object of the user's own as `package.module:Name`.

    Such an object is imported later, by the code that needs it: reading a recipe imports nothing.

    >>> TableName(("adamw", "muon"))("adam")
    Traceback (most recent call last):
    ValueError: unknown name "adam". Did you mean "adamw"? Known: adamw, muon. Your own: package.module:Name
    """

    known: tuple[str, ...]
    refused: Mapping[str, str] = field(default_factory=dict[str, str])
    """Names that others know, with what to do instead."""

    def __call__(self, name: str) -> str:
        """Return the name unchanged.

        Raises:
            ValueError: the table has no such name.
        """
        if name in self.known or is_own(name):
            return name
        if name in self.refused:
            raise ValueError(f"{name} is not one of ours: {self.refused[name]}")
        known = ", ".join(self.known)
        raise ValueError(
            f'unknown name "{name}". {suggestion(name, self.known)}Known: {known}. Your own: package.module:Name'
        )


def is_own(name: str) -> bool:
    """Return whether a name is `package.module:Name`, an object of the user's own, and not an entry of a table."""
    return ":" in name


class Section(BaseModel):
    """Base of all sections: frozen, no unknown keys, defaults validated."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())

    def changes(self, option: str) -> bool:
        """Return whether an option differs from its default; validators use it to find options without effect."""
        return getattr(self, option) != type(self).model_fields[option].get_default(call_default_factory=True)
