"""Counting: how many … are there? The answer is an integer."""

from __future__ import annotations

from vlm_r1.errors import DataError
from vlm_r1.parsing.numbers import parse_integer
from vlm_r1.types import AnswerValue, Box, BoxFormat, ImageFrame, Parsed, ParseFailure, Record


class Counting:
    """The answer is an int; the accuracy reward is 1 for the right number."""

    name = "counting"
    reward = "count"
    answer_is_box = False

    def question(self, record: Record) -> str:
        """The problem as it stands."""
        return record.problem

    def gold(self, record: Record) -> int:
        """Read the gold number by the rule that reads a model's."""
        answer = record.answer
        usable = isinstance(answer, str | int | float) and not isinstance(answer, bool)
        parsed = parse_integer(str(answer)) if usable else ParseFailure("no_number")
        if isinstance(parsed, ParseFailure):
            raise DataError(
                f"{record.source}: the gold answer {answer!r:.200} is no count ({parsed.reason}); "
                "wanted an integer, e.g. 3"
            )
        return parsed.value

    def gold_text(self, gold: int, frames: tuple[ImageFrame, ...], box_format: BoxFormat) -> str:
        """The digits."""
        return str(gold)

    def parse(self, answer_text: str) -> Parsed[int] | ParseFailure:
        """See `parse_integer`."""
        return parse_integer(answer_text)

    def to_pixels(self, value: int, frames: tuple[ImageFrame, ...], box_format: BoxFormat) -> int:
        """A count has no coordinates."""
        return value

    def metrics(self, value: int | None, gold: int) -> dict[str, float]:
        """1 for the right number."""
        return {"accuracy": float(value == gold)}

    def answer_json(self, value: int) -> AnswerValue:
        """The number."""
        return value

    def boxes(self, gold: int) -> tuple[Box, ...]:
        """None."""
        return ()
