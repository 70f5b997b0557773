"""Visual question answering with short answers: a word, a choice, a label such as "No Defect". Any number of images."""

from __future__ import annotations

from vlm_r1.errors import DataError
from vlm_r1.parsing.choices import normalize_text, parse_text
from vlm_r1.rewards.text import same_text
from vlm_r1.types import AnswerValue, Box, BoxFormat, ImageFrame, Parsed, ParseFailure, Record


class Vqa:
    """The answer is a str; the accuracy reward is equality up to case, white space and final full stops."""

    name = "vqa"
    reward = "exact_match"
    answer_is_box = False

    def question(self, record: Record) -> str:
        """The problem as it stands."""
        return record.problem

    def gold(self, record: Record) -> str:
        """The gold text; numbers and booleans are written out."""
        answer = record.answer
        parsed = parse_text(str(answer)) if isinstance(answer, str | int | float) else ParseFailure("not_a_text")
        if isinstance(parsed, ParseFailure) or not normalize_text(parsed.value):
            raise DataError(
                f"{record.source}: the gold answer {answer!r:.200} is no short text; wanted a string or a number"
            )
        return parsed.value

    def gold_text(self, gold: str, frames: tuple[ImageFrame, ...], box_format: BoxFormat) -> str:
        """The text itself."""
        return gold

    def parse(self, answer_text: str) -> Parsed[str] | ParseFailure:
        """See `parse_text`."""
        return parse_text(answer_text)

    def to_pixels(self, value: str, frames: tuple[ImageFrame, ...], box_format: BoxFormat) -> str:
        """A text has no coordinates."""
        return value

    def metrics(self, value: str | None, gold: str) -> dict[str, float]:
        """1 for the right text."""
        return {"accuracy": float(value is not None and same_text(value, gold))}

    def answer_json(self, value: str) -> AnswerValue:
        """The text."""
        return value

    def boxes(self, gold: str) -> tuple[Box, ...]:
        """None."""
        return ()
