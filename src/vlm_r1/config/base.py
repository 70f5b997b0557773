"""What all sections of a recipe share: their base class, numbers with a range, and paths."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(gt=0, le=1)]
PathText = Annotated[str, AfterValidator(os.path.expanduser)]
"""A path, or a URL or name of the Hub, with a leading ~ put as the home folder."""


class Section(BaseModel):
    """Base of all sections: frozen, no unknown keys, defaults validated."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, protected_namespaces=())

    def changes(self, option: str) -> bool:
        """Return whether an option is not at its default; validators ask it of options that would have no effect."""
        return getattr(self, option) != type(self).model_fields[option].get_default(call_default_factory=True)
