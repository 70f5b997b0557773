"""The stages of a rehearsal: each is timed and told, and an error names the stage in which it came up."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from vlm_r1.errors import VlmR1Error


class Outcome(NamedTuple):
    """What came of a stage.

    Attributes:
        name: of the stage, e.g. "export".
        state: "none": the recipe has nothing of this kind.
        seconds: how long it took.
        told: what was done, for people.
    """

    name: str
    state: Literal["done", "failed", "none"]
    seconds: float
    told: str


Tell = Callable[[Outcome], None]
Says = Callable[[str], None]


@dataclass
class Stages:
    """Runs the stages one after another; `tell` gets the outcome of each as soon as it is known."""

    tell: Tell
    begin: Says = lambda name: None
    outcomes: list[Outcome] = field(default_factory=list[Outcome])

    @contextmanager
    def __call__(self, name: str) -> Generator[Says]:
        """Time a stage; yields a function that takes the text of its outcome.

        Raises:
            VlmR1Error: of the block, with the stage at the start of its message.
        """
        told: list[str] = []
        self.begin(name)
        start = time.perf_counter()
        try:
            yield told.append
        except VlmR1Error as error:
            self.add(Outcome(name, "failed", time.perf_counter() - start, "see the error below"))
            error.args = (f"rehearsal, stage {name}: {error}",)
            raise
        except BaseException:
            self.add(Outcome(name, "failed", time.perf_counter() - start, "it broke off"))
            raise
        self.add(Outcome(name, "done", time.perf_counter() - start, "; ".join(told)))

    def add(self, outcome: Outcome) -> None:
        """Tell an outcome, also of something that took place within another stage."""
        self.outcomes.append(outcome)
        self.tell(outcome)
