"""What all sections of a recipe share: their base class, numbers with a range, and paths."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from vlm_r1.registry import suggestion

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(gt=0, le=1)]
PathText = Annotated[str, AfterValidator(os.path.expanduser)]
"""A path, or a URL or name of the Hub, with a leading ~ put as the home folder."""


@dataclass(frozen=True)
class TableName:
    """Validates a text that names an entry of a table, or something of one's own by `package.module:Name`.

    What a name of one's own means is found out by the code that needs it: a recipe is read without importing it.

    >>> TableName(("adamw", "muon"))("adam")
    Traceback (most recent call last):
    ValueError: unknown name "adam". Did you mean "adamw"? Known: adamw, muon. Your own: package.module:Name
    """

    known: tuple[str, ...]

    def __call__(self, name: str) -> str:
        """Return the name as it is."""
        if name in self.known or is_own(name):
            return name
        known = ", ".join(self.known)
        raise ValueError(
            f'unknown name "{name}". {suggestion(name, self.known)}Known: {known}. Your own: package.module:Name'
        )


def is_own(name: str) -> bool:
    """Return whether a name is one's own, `package.module:Name`, rather than that of a table."""
    return ":" in name


class Section(BaseModel):
    """Base of all sections: frozen, no unknown keys, defaults validated."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())

    def changes(self, option: str) -> bool:
        """Return whether an option is not at its default; validators ask it of options that would have no effect."""
        return getattr(self, option) != type(self).model_fields[option].get_default(call_default_factory=True)
