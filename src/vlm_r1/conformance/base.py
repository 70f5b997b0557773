"""The nouns of the checks: a check, its finding, its result."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from vlm_r1.conformance.context import Context


class Status(enum.Enum):
    """How a check ended."""

    OK = "ok"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Finding:
    """The finding of a check.

    Attributes:
        numbers: measured values by name, e.g. {"largest difference": 3.1e-7}.
        problems: sentences that say what is wrong and what to do; empty if the check passed.
        not_applicable: why there was nothing to check, or "".
    """

    numbers: Mapping[str, float | str] = field(default_factory=dict[str, float | str])
    problems: tuple[str, ...] = ()
    not_applicable: str = ""


@dataclass(frozen=True)
class Check:
    """One property that training relies on.

    Attributes:
        name: one word, e.g. "prefix".
        asks: the property as a sentence.
        function: runs the check; an exception counts as a failure.
    """

    name: str
    asks: str
    function: Callable[[Context], Finding]


@dataclass(frozen=True)
class Result:
    """The row of one check in the table.

    Attributes:
        numbers: see `Finding`.
        message: the problems, or why the check does not apply, or "".
        seconds: wall time.
    """

    name: str
    status: Status
    numbers: Mapping[str, float | str]
    message: str
    seconds: float


def few(names: Sequence[str], n: int = 4) -> str:
    """Join the first of many names, with the number of the others.

    >>> few(["a", "b", "c"], n=2)
    'a, b and 1 more'
    """
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")
