"""Tasks whose answers are a choice: an option's letter, or yes or no. They allow any number of images."""

from __future__ import annotations

import operator
import re

from vlm_r1.parsing.choices import options_in_problem, parse_yes_no
from vlm_r1.parsing.options import OPTIONS, options_of, read_choice
from vlm_r1.tasks.plain import PlainTask, read_as_text, text_alone
from vlm_r1.types import Parsed, ParseFailure, Record

_ASK_FOR_LETTER = "Answer with the letter of the right option."
_ASK_FOR_VERDICT = "Answer yes or no."


def _ask_choice(record: Record) -> str:
    """The problem; options that it does not list itself follow, one on each line."""
    options = options_of(record)
    if not options or options_in_problem(record.problem) or OPTIONS not in record.columns:
        return record.problem
    lines = [f"{letter}. {text}" for letter, text in options.items()]
    return "\n".join([record.problem.rstrip(), *lines, _ASK_FOR_LETTER])


def _read_choice(text: str, record: Record) -> Parsed[str] | ParseFailure:
    return read_choice(text, options_of(record))


def _gold_letter(record: Record) -> Parsed[str] | ParseFailure:
    """Read a letter, the text of an option, or both ("B. dog"); if options are known, it must be one of them."""
    return read_as_text(record.answer, lambda text: _read_choice(text, record))


def _ask_yes_no(record: Record) -> str:
    """The problem, followed by a request for yes or no unless it contains one of these words."""
    asks = re.search(r"\b(yes|no)\b", record.problem, re.IGNORECASE)
    return record.problem if asks else f"{record.problem.rstrip()} {_ASK_FOR_VERDICT}"


def _gold_verdict(record: Record) -> Parsed[bool] | ParseFailure:
    """Read JSON's true or false, or a text."""
    return Parsed(record.answer) if isinstance(record.answer, bool) else read_as_text(record.answer, parse_yes_no)


CHOICE = PlainTask[str, str](
    name="choice",
    reward="choice",
    wanted="option: a letter, e.g. B, or the text of one of the record's options",
    read=_read_choice,
    read_gold=_gold_letter,
    measures={"accuracy": operator.eq},
    ask=_ask_choice,
)

YES_NO = PlainTask[bool, bool](
    name="yes_no",
    reward="yes_no",
    wanted='verdict: true, false, or a text with the word "yes" or "no"',
    read=text_alone(parse_yes_no),
    read_gold=_gold_verdict,
    measures={"accuracy": operator.eq},
    write=lambda verdict: "Yes" if verdict else "No",
    ask=_ask_yes_no,
)
