"""Tasks whose answers have no coordinates: a word, a letter, a number, a formula. Each is a value of one class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from vlm_r1.errors import DataError
from vlm_r1.types import AnswerValue, Box, BoxFormat, ImageFrame, Parsed, ParseFailure, Record

V = TypeVar("V", bound=str | int | float)
G = TypeVar("G")


def problem_as_it_stands(record: Record) -> str:
    """The question of tasks whose problems are whole questions."""
    return record.problem


@dataclass(frozen=True)
class PlainTask(Generic[V, G]):
    """A task by what is particular to it; V is the type of an answer and G that of a gold answer (see `Task`).

    Attributes:
        name: as in recipes and records, e.g. "counting".
        reward: name of the accuracy reward of records that name none, e.g. "count".
        wanted: the gold answer in words, noun first, for errors: "count: an integer, e.g. 3".
        read: reads a model's answer to a record; never raises, whatever the text. See `text_alone`.
        read_gold: reads a record's gold answer; most often `read_as_text` with the rule that reads a model's.
        measures: the evaluation numbers by name, each a function of answer and gold, in [0, 1].
        write: what a perfect model writes; must be read back as full marks.
        ask: the question with its `<image>` marks.
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
    image = 0

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
        """Nothing to convert."""
        return value

    def metrics(self, value: V | None, gold: G) -> dict[str, float]:
        """See `measures`."""
        return {name: 0.0 if value is None else float(of(value, gold)) for name, of in self.measures.items()}

    def answer_json(self, value: V) -> AnswerValue:
        """The answer itself."""
        return value

    def boxes(self, gold: G) -> tuple[Box, ...]:
        """None."""
        return ()


def text_alone(read: Callable[[str], Parsed[V] | ParseFailure]) -> Callable[[str, Record], Parsed[V] | ParseFailure]:
    """A rule that reads answers to all records alike, as `PlainTask.read`."""
    return lambda text, record: read(text)


def read_as_text(answer: AnswerValue, read: Callable[[str], Parsed[G] | ParseFailure]) -> Parsed[G] | ParseFailure:
    """Read a gold answer by the rule that reads a model's, numbers and booleans written out; or `not_a_text`.

    >>> from vlm_r1.parsing.numbers import parse_integer
    >>> read_as_text(3, parse_integer), read_as_text("3", parse_integer), read_as_text([3], parse_integer)
    (Parsed(value=3), Parsed(value=3), ParseFailure(reason='not_a_text'))
    """
    return read(str(answer)) if isinstance(answer, str | int | float) else ParseFailure("not_a_text")
