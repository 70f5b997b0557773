"""A task asks questions, reads answers, and measures how good they are. It never mentions a model.

A new task is a value or a class with these members, and one line in `TASKS` (or `my_package.module:MY_TASK` in the
recipe; docs/add_a_task.md). Answers without coordinates need no class: see `PlainTask`. Every task obeys one law, which
`tests/tasks/test_law.py` and `vlm-r1 data check` test: it scores its own gold answer full marks.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from vlm_r1.types import AnswerValue, BoxFormat, ImageFrame, Parsed, ParseFailure, PlacedBox, Record

V = TypeVar("V")
G = TypeVar("G")


class Task(Protocol[V, G]):
    """V is the type of an answer, e.g. Point; `parse` yields it in the model's coordinates, elsewhere it is in pixels.

    G is the type of a gold answer. It is often V, but e.g. a region if the answer is a point in it.
    """

    @property
    def name(self) -> str:
        """Its name in recipes and records, e.g. "rec"."""
        ...

    @property
    def reward(self) -> str:
        """Name of the accuracy reward for records that name none, e.g. "iou"."""
        ...

    @property
    def answer_is_box(self) -> bool:
        """True if the answer is a box, so that templates may mention its JSON format."""
        ...

    @property
    def main_metric(self) -> str:
        """Name of the number in `metrics` that says most, e.g. "accuracy_iou50": it has the first chart and place."""
        ...

    def question(self, record: Record) -> str:
        """Return the question with its `<image>` marks, before any template."""
        ...

    def gold(self, record: Record) -> G:
        """Return the typed gold answer; DataError, starting with `record.source`, if it cannot be used."""
        ...

    def gold_text(self, gold: G, frames: tuple[ImageFrame, ...], box_format: BoxFormat) -> str:
        """Write the gold answer as a perfect model would, in the coordinates of its family."""
        ...

    def parse(self, answer_text: str, record: Record) -> Parsed[V] | ParseFailure:
        """Read a model's answer to a record, in the model's coordinates; no text raises an error.

        The record gives what was asked, e.g. the options of a choice; its gold answer must not be used.
        """
        ...

    def to_pixels(self, value: V, frames: tuple[ImageFrame, ...], box_format: BoxFormat) -> V:
        """Convert the boxes and points of an answer from the model's coordinates to original pixels."""
        ...

    def metrics(self, value: V | None, gold: G) -> dict[str, float]:
        """Return evaluation numbers of one answer, each in [0, 1]; for None (nothing was parsed) they are zeros.

        The keys may depend only on the gold answer: a metric is averaged over the records that have it.
        """
        ...

    def answer_json(self, value: V) -> AnswerValue:
        """Return the answer as JSON, for rollout files.

        A box on one of several images names it, `{"bbox_2d": [x1, y1, x2, y2], "image": 1}`, so that it is drawn there.
        """
        ...

    def boxes(self, gold: G) -> tuple[PlacedBox, ...]:
        """Return all boxes of a gold answer, to compare them with their images; empty for tasks without boxes."""
        ...
