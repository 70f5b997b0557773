"""Tasks whose answers have no coordinates, e.g. a word, a letter, a number or a formula. Each is one `PlainTask`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from vlm_r1.errors import DataError
from vlm_r1.types import AnswerValue, BoxFormat, ImageFrame, Parsed, ParseFailure, PlacedBox, Record

V = TypeVar("V", bound=str | int | float)
G = TypeVar("G")


def problem_as_it_stands(record: Record) -> str:
    """Return the problem, for tasks whose problems are whole questions."""
    return record.problem


@dataclass(frozen=True)
class PlainTask(Generic[V, G]):
    """A task without coordinates; V is the type of an answer and G that of a gold answer (see `Task`).

    Attributes:
        name: its name in recipes and records, e.g. "counting".
        reward: name of the accuracy reward for records that name none, e.g. "count".
        wanted: a noun and a description of the gold answer, for errors: "count: an integer, e.g. 3".
        read: reads a model's answer to a record; no text raises an error. See `text_alone`.
        read_gold: reads a record's gold answer, often by `read_as_text` with the rule for a model's answer.
        measures: evaluation numbers by name, the main one first; each is a function of answer and gold answer with
            values in [0, 1].
        write: writes the gold answer as a perfect model would; reading it again must give full marks.
        ask: returns the question with its `<image>` marks.
    """

    name: str
    reward: str
    wanted: str
    read: Callable[[str, Record], Parsed[V] | ParseFailure]
    read_gold: Callable[[Record], Parsed[G] | ParseFailure]
    measures: Mapping[str, Callable[[V, G], float]]
    write: Callable[[G], str] = str
    ask: Callable[[Record], str] = problem_as_it_stands

    answer_is_box = False

    @property
    def main_metric(self) -> str:
        """The first of `measures`."""
        return next(iter(self.measures))

    def question(self, record: Record) -> str:
        """See `ask`."""
        return self.ask(record)

    def gold(self, record: Record) -> G:
        """See `read_gold`; DataError if that fails."""
        match self.read_gold(record):
            case Parsed(value=gold):
                return gold
            case ParseFailure(reason=reason):
                noun, _, example = self.wanted.partition(": ")
                raise DataError(
                    f"{record.source}: the gold answer {record.answer!r:.200} is no {noun} ({reason}); wanted {example}"
                )

    def gold_text(self, gold: G, frames: tuple[ImageFrame, ...], box_format: BoxFormat) -> str:
        """See `write`."""
        return self.write(gold)

    def parse(self, answer_text: str, record: Record) -> Parsed[V] | ParseFailure:
        """See `read`."""
        return self.read(answer_text, record)

    def to_pixels(self, value: V, frames: tuple[ImageFrame, ...], box_format: BoxFormat) -> V:
        """Return the value, which has no coordinates."""
        return value

    def metrics(self, value: V | None, gold: G) -> dict[str, float]:
        """See `measures`."""
        return {name: 0.0 if value is None else float(of(value, gold)) for name, of in self.measures.items()}

    def answer_json(self, value: V) -> AnswerValue:
        """Return the answer itself."""
        return value

    def boxes(self, gold: G) -> tuple[PlacedBox, ...]:
        """Return no boxes."""
        return ()


def text_alone(read: Callable[[str], Parsed[V] | ParseFailure]) -> Callable[[str, Record], Parsed[V] | ParseFailure]:
    """Turn a rule that needs only the text into a `PlainTask.read`."""
    return lambda text, record: read(text)


def read_as_text(answer: AnswerValue, read: Callable[[str], Parsed[G] | ParseFailure]) -> Parsed[G] | ParseFailure:
    """Read a gold answer by the rule for a model's answer; numbers and booleans become text, others `not_a_text`.

    >>> from vlm_r1.parsing.numbers import parse_integer
    >>> read_as_text(3, parse_integer), read_as_text("3", parse_integer), read_as_text([3], parse_integer)
    (Parsed(value=3), Parsed(value=3), ParseFailure(reason='not_a_text'))
    """
    return read(str(answer)) if isinstance(answer, str | int | float) else ParseFailure("not_a_text")
