"""Mathematics: the answer is a number or a formula, compared by value. Any number of images."""

from __future__ import annotations

from vlm_r1.errors import DataError
from vlm_r1.parsing.choices import parse_text
from vlm_r1.parsing.limits import MAX_EXPRESSION_CHARS
from vlm_r1.rewards.math import same_mathematics
from vlm_r1.types import AnswerValue, Box, BoxFormat, ImageFrame, Parsed, ParseFailure, Record


class Math:
    """The answer is a str such as "\\frac{1}{2}"; the accuracy reward is 1 for the same value."""

    name = "math"
    reward = "math"
    answer_is_box = False

    def question(self, record: Record) -> str:
        """The problem as it stands."""
        return record.problem

    def gold(self, record: Record) -> str:
        """The gold formula; numbers are written out."""
        answer = record.answer
        usable = isinstance(answer, str | int | float) and not isinstance(answer, bool)
        parsed = self.parse(str(answer)) if usable else ParseFailure("not_a_text")
        if isinstance(parsed, ParseFailure):
            raise DataError(
                f"{record.source}: the gold answer {answer!r:.200} is no formula ({parsed.reason}); wanted a number or "
                f'a text of at most {MAX_EXPRESSION_CHARS} characters, e.g. "\\frac{{1}}{{2}}"'
            )
        return parsed.value

    def gold_text(self, gold: str, frames: tuple[ImageFrame, ...], box_format: BoxFormat) -> str:
        """The formula itself."""
        return gold

    def parse(self, answer_text: str) -> Parsed[str] | ParseFailure:
        """See `parse_text`, with a lower limit: comparing formulas costs more than comparing words."""
        return ParseFailure("too_long") if len(answer_text) > MAX_EXPRESSION_CHARS else parse_text(answer_text)

    def to_pixels(self, value: str, frames: tuple[ImageFrame, ...], box_format: BoxFormat) -> str:
        """A formula has no coordinates."""
        return value

    def metrics(self, value: str | None, gold: str) -> dict[str, float]:
        """1 for the right value."""
        return {"accuracy": float(value is not None and same_mathematics(gold, value))}

    def answer_json(self, value: str) -> AnswerValue:
        """The formula."""
        return value

    def boxes(self, gold: str) -> tuple[Box, ...]:
        """None."""
        return ()
