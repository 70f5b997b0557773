"""What the doctor looks at, and what it finds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vlm_r1.doctor.answers import Answers
from vlm_r1.runtime.metrics_log import MetricsRow

WINDOW = 10
"""Steps that are averaged, at the start of a run and at its end. One step of 16 prompts says little by itself: the mean
reward of the demo changes by 0.1 from step to step."""

COMPARED_FROM = 30
"""Steps from which the end of a run is compared with its start: the two windows are then a window apart."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a run.

    Attributes:
        name: of the sign, e.g. "one-answer". docs/doctor.md has a section of that name.
        evidence: the numbers, a sentence.
        cause: what is likely behind it.
        change: what to do.
        step: last step that was looked at.
        about: the held-out set or the component of the reward that it is about; "" for the run.
        doubts: whether a better held-out result of the set `about` says nothing, because of this.
    """

    name: str
    evidence: str
    cause: str
    change: str
    step: int
    about: str = ""
    doubts: bool = False

    @property
    def link(self) -> str:
        """The section of the documentation.

        >>> Finding("one-answer", "", "", "", 3).link
        'docs/doctor.md#one-answer'
        """
        return f"docs/doctor.md#{self.name}"

    @property
    def key(self) -> tuple[str, str]:
        """What is found: two findings with the same key are one."""
        return self.name, self.about

    def as_json(self) -> dict[str, Any]:
        """Return it as `summary.json` and `vlm-r1 doctor --json` write it."""
        return {
            "name": self.name,
            "about": self.about,
            "step": self.step,
            "evidence": self.evidence,
            "cause": self.cause,
            "change": self.change,
            "link": self.link,
        }


@dataclass(frozen=True)
class Settings:
    """What the signs need to know of a recipe; `settings_of` reads it.

    Attributes:
        loss_type: name of the loss.
        max_completion_length: tokens.
        completions: of a step, P · G.
        prompts: of a step, P.
        weights: of the components of the reward.
        rewards: names of the accuracy rewards of the training files.
        cuts: whether top_p, top_k or min_p cuts what is sampled.
    """

    loss_type: str = "grpo"
    max_completion_length: int = 0
    completions: int = 0
    prompts: int = 0
    weights: Mapping[str, float] = field(default_factory=dict[str, float])
    rewards: tuple[str, ...] = ()
    cuts: bool = False


@dataclass(frozen=True)
class HeldOut:
    """One evaluation of a held-out set.

    Attributes:
        step: after which it was made; 0: before training.
        n: answers.
        metric: the name that says most, e.g. "accuracy_iou50".
        mean, low, high: of the metric, with its 95 % interval.
        unread: answers that could not be read, by reason.
        answers: what its samples hold; None: not read.
    """

    step: int
    n: int
    metric: str
    mean: float
    low: float
    high: float
    unread: Mapping[str, int] = field(default_factory=dict[str, int])
    answers: Answers | None = None


@dataclass(frozen=True)
class Seen:
    """What is known of a run after some step. What is missing is empty, and a sign that needs it is silent.

    Attributes:
        settings: of its recipe.
        rows: of metrics.jsonl, of its last stage, in order.
        answers: the sampled answers by step, at least those of the first and last `WINDOW` steps.
        held_out: evaluations by held-out set, by step.
    """

    settings: Settings
    rows: Sequence[MetricsRow] = ()
    answers: Mapping[int, Answers] = field(default_factory=dict[int, Answers])
    held_out: Mapping[str, Sequence[HeldOut]] = field(default_factory=dict[str, Sequence[HeldOut]])

    @property
    def step(self) -> int:
        """The last step."""
        return int(self.rows[-1]["step"]) if self.rows else 0


def numbers(rows: Iterable[MetricsRow], key: str) -> list[float]:
    """Return the finite values of a metric, in order; rows without it are left out."""
    values = (row.get(key) for row in rows)
    return [float(value) for value in values if isinstance(value, int | float) and math.isfinite(value)]


def mean(values: Sequence[float]) -> float:
    """The mean of at least one value."""
    return math.fsum(values) / len(values)


@dataclass(frozen=True)
class Change:
    """Means of a metric over the first and the last `WINDOW` steps, and the standard error of their difference."""

    first: float
    last: float
    error: float

    @property
    def rises(self) -> bool:
        """Whether it rose by more than two standard errors."""
        return self.last - self.first > 2 * self.error

    @property
    def falls(self) -> bool:
        """Whether it fell by more than two standard errors."""
        return self.first - self.last > 2 * self.error

    @property
    def ratio(self) -> float:
        """The last mean divided by the first; 1 if the first is not above 0."""
        return self.last / self.first if self.first > 0 else 1.0


def change_of(rows: Sequence[MetricsRow], key: str) -> Change | None:
    """Compare the ends of a run; None below `COMPARED_FROM` steps, or if a window lacks the metric in half its rows.

    The standard error takes steps as independent: √(s₁²/n₁ + s₂²/n₂).
    """
    if len(rows) < COMPARED_FROM:
        return None
    first, last = (numbers(window, key) for window in (rows[:WINDOW], rows[-WINDOW:]))
    if min(len(first), len(last)) < WINDOW // 2:
        return None
    return Change(mean(first), mean(last), math.sqrt(_variance(first) / len(first) + _variance(last) / len(last)))


def _variance(values: Sequence[float]) -> float:
    centre = mean(values)
    return math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1)


def last_numbers(seen: Seen, key: str) -> list[float]:
    """Return a metric of the last `WINDOW` steps; [] if the run has fewer, or one of them lacks it."""
    if len(seen.rows) < WINDOW:
        return []
    found = numbers(seen.rows[-WINDOW:], key)
    return found if len(found) == WINDOW else []


def percent(share: float) -> str:
    """Return a share for people.

    >>> percent(0.125), percent(1.0)
    ('12 %', '100 %')
    """
    return f"{100 * share:.0f} %"
