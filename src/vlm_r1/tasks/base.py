"""What a task is: how it asks, how its answers are read, and how good they are. A task never mentions a model.

To add one: a value or a class with these members, and one line in `TASKS` (or `my_package.module:MY_TASK` in the
recipe; docs/add_a_task.md). Answers without coordinates need no class: see `PlainTask`. The law every task obeys,
checked by `tests/tasks/test_law.py` and by `vlm-r1 data check`: it scores its own gold answer full marks.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from vlm_r1.types import AnswerValue, Box, BoxFormat, ImageFrame, Parsed, ParseFailure, Record

V = TypeVar("V")
G = TypeVar("G")


class Task(Protocol[V, G]):
    """V is the type of an answer, e.g. Point: in the model's coordinates after `parse`, in original pixels elsewhere.

    G is the type of a gold answer, most often V too; e.g. a region, where a point in it is asked for.
    """

    @property
    def name(self) -> str:
        """As in recipes and records, e.g. "rec"."""
        ...

    @property
    def reward(self) -> str:
        """Name of the accuracy reward of records that name none, e.g. "iou"."""
        ...

    @property
    def answer_is_box(self) -> bool:
        """Whether the answer is a box, so that templates may speak of its JSON format."""
        ...

    @property
    def image(self) -> int:
        """On which image of a record its boxes and points lie: 0 is the first, -1 the last."""
        ...

    def question(self, record: Record) -> str:
        """The question with its `<image>` marks, before any template."""
        ...

    def gold(self, record: Record) -> G:
        """The typed gold answer; DataError starting with `record.source` if the record has none that can be used."""
        ...

    def gold_text(self, gold: G, frames: tuple[ImageFrame, ...], box_format: BoxFormat) -> str:
        """What a perfect model writes as its answer, in the coordinates of its family."""
        ...

    def parse(self, answer_text: str, record: Record) -> Parsed[V] | ParseFailure:
        """Read a model's answer to a record, in the model's own coordinates; never raises, whatever the text.

        The record is for what was asked, e.g. the options of a choice, and not for its gold answer.
        """
        ...

    def to_pixels(self, value: V, frames: tuple[ImageFrame, ...], box_format: BoxFormat) -> V:
        """The answer with its boxes and points converted from the model's coordinates to original pixels."""
        ...

    def metrics(self, value: V | None, gold: G) -> dict[str, float]:
        """Evaluation numbers of one answer, each in [0, 1]; zeros under the same keys for None (nothing was parsed).

        The keys may depend on the gold answer: a metric is averaged over the records that have it.
        """
        ...

    def answer_json(self, value: V) -> AnswerValue:
        """The answer as JSON, for rollout files."""
        ...

    def boxes(self, gold: G) -> tuple[Box, ...]:
        """All boxes of a gold answer, to check them against the image; empty for tasks without boxes."""
        ...
