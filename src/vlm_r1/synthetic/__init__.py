"""Small worlds for the demo and for studies: pictures, questions with one right answer, and a mediocre teacher.

`vlm-r1 data synth` writes their data sets; docs/synthetic.md describes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from vlm_r1.errors import ConfigError
from vlm_r1.registry import resolve
from vlm_r1.synthetic.base import ALL_SHIFTS, SHIFTS, Example, SizeRange, World, check_name, shifted
from vlm_r1.synthetic.change import ChangeWorld
from vlm_r1.synthetic.click import ClickWorld
from vlm_r1.synthetic.counting import CountingWorld
from vlm_r1.synthetic.dataset import DEFAULT_COUNTS, DEMO_WORLD, write_dataset, write_rec_dataset
from vlm_r1.synthetic.ovd import OvdWorld
from vlm_r1.synthetic.rec import RecWorld

WORLDS: Mapping[str, type[World[Any]]] = {
    "rec": RecWorld,
    "ovd": OvdWorld,
    "counting": CountingWorld,
    "change": ChangeWorld,
    "click": ClickWorld,
}


def make_world(name: str, difficulty: str = "medium", **options: Any) -> World[Any]:
    """Make the world of that name (or a plug-in `package.module:Name`) at a level of difficulty.

    Args:
        name: a key of `WORLDS`.
        difficulty: "easy", "medium" or "hard".
        options: fields of the world; they override those of the difficulty.

    Raises:
        ConfigError: the name is unknown, or the world lacks an option or cannot use its value.

    >>> make_world("ovd", "hard", max_objects=5).max_objects
    5
    """
    kind = resolve("world", name, WORLDS)
    check_name("difficulty", difficulty, tuple(kind.levels))
    for option in sorted(set(options) - {field.name for field in fields(kind)}):
        worlds = [known for known, other in WORLDS.items() if option in {field.name for field in fields(other)}]
        raise ConfigError(
            f'the option {option} has no effect in the world "{name}". Leave it out, or choose another world: '
            f"{', '.join(worlds) or 'none has it'}"
        )
    return kind(**{**kind.levels[difficulty], **options})


__all__ = [
    "ALL_SHIFTS",
    "DEFAULT_COUNTS",
    "DEMO_WORLD",
    "SHIFTS",
    "WORLDS",
    "ChangeWorld",
    "ClickWorld",
    "CountingWorld",
    "Example",
    "OvdWorld",
    "RecWorld",
    "SizeRange",
    "World",
    "make_world",
    "shifted",
    "write_dataset",
    "write_rec_dataset",
]
