"""Tasks whose answers are short texts or numbers: VQA, documents, classification, GUI defects, counting, mathematics.

They allow any number of images.
"""

from __future__ import annotations

import operator

from vlm_r1.parsing.choices import parse_text
from vlm_r1.parsing.limits import MAX_EXPRESSION_CHARS
from vlm_r1.parsing.normal_form import normalize_text
from vlm_r1.parsing.numbers import parse_integer
from vlm_r1.rewards.math import same_mathematics
from vlm_r1.rewards.text import levenshtein_similarity, same_text
from vlm_r1.tasks.plain import PlainTask, read_as_text, text_alone
from vlm_r1.types import AnswerValue, Parsed, ParseFailure, Record

LABELS = "labels"
"""Column of a record that lists the answers to choose from, e.g. ["cat", "dog"]."""

_NO_DEFECT = "No Defect"


def parse_short_text(text: str) -> Parsed[str] | ParseFailure:
    """Like `parse_text`, but a text of full stops alone is also `empty_answer`.

    >>> parse_short_text(" No Defect. "), parse_short_text("...")
    (Parsed(value='No Defect.'), ParseFailure(reason='empty_answer'))
    """
    parsed = parse_text(text)
    is_empty = isinstance(parsed, Parsed) and not normalize_text(parsed.value)
    return ParseFailure("empty_answer") if is_empty else parsed


def parse_expression(text: str) -> Parsed[str] | ParseFailure:
    """Like `parse_text` with a lower limit, since comparing formulas costs more than comparing words."""
    return ParseFailure("too_long") if len(text) > MAX_EXPRESSION_CHARS else parse_text(text)


def _gold_text(record: Record) -> Parsed[str] | ParseFailure:
    return read_as_text(record.answer, parse_short_text)


def _gold_expression(record: Record) -> Parsed[str] | ParseFailure:
    is_truth = isinstance(record.answer, bool)  # "True" would be a formula of four unknowns
    return ParseFailure("not_a_text") if is_truth else read_as_text(record.answer, parse_expression)


def _gold_texts(record: Record) -> Parsed[tuple[str, ...]] | ParseFailure:
    """Read one accepted text, or a list of them."""
    answers: list[AnswerValue] = record.answer if isinstance(record.answer, list) else [record.answer]
    texts: list[str] = []
    for answer in answers:
        parsed = read_as_text(answer, parse_short_text)
        if isinstance(parsed, ParseFailure):
            return parsed
        texts.append(parsed.value)
    return Parsed(tuple(texts)) if texts else ParseFailure("empty_answer")


def _gold_label(record: Record) -> Parsed[str] | ParseFailure:
    parsed, labels = _gold_text(record), labels_of(record)
    if isinstance(parsed, ParseFailure) or not labels:
        return parsed
    return parsed if any(same_text(parsed.value, label) for label in labels) else ParseFailure("not_among_labels")


def labels_of(record: Record) -> tuple[str, ...]:
    """Return the answers to choose from, from the column `labels`; empty if there are none."""
    labels = record.columns.get(LABELS)
    return tuple(map(str, labels)) if isinstance(labels, list) else ()


def ask_for_label(record: Record) -> str:
    """Return the problem, followed by the record's labels if it has any."""
    labels = labels_of(record)
    return f"{record.problem.rstrip()} Answer with one of these: {', '.join(labels)}." if labels else record.problem


def _among(value: str, golds: tuple[str, ...]) -> bool:
    return any(same_text(value, gold) for gold in golds)


def _same_presence(value: str, gold: str) -> bool:
    """Return whether both texts name a defect, or both name none."""
    return same_text(value, _NO_DEFECT) == same_text(gold, _NO_DEFECT)


VQA = PlainTask[str, str](
    name="vqa",
    reward="exact_match",
    wanted="short text: a string or a number",
    read=text_alone(parse_text),
    read_gold=_gold_text,
    measures={"accuracy": same_text},
)

DOCUMENT = PlainTask[str, tuple[str, ...]](
    name="document",
    reward="anls",
    wanted="short text: a string, a number, or a list of accepted ones",
    read=text_alone(parse_text),
    read_gold=_gold_texts,
    measures={"anls": levenshtein_similarity, "accuracy": _among},
    write=lambda golds: golds[0],
)

CLASSIFICATION = PlainTask[str, str](
    name="classification",
    reward="exact_match",
    wanted=f'label: a short text, and one of the column "{LABELS}" if the record has it',
    read=text_alone(parse_text),
    read_gold=_gold_label,
    measures={"accuracy": same_text},
    ask=ask_for_label,
)

GUI_DEFECT = PlainTask[str, str](
    name="gui_defect",
    reward="exact_match",
    wanted=f'verdict: the name of a defect or "{_NO_DEFECT}", and one of the column "{LABELS}" if the record has it',
    read=text_alone(parse_text),
    read_gold=_gold_label,
    measures={"accuracy": same_text, "presence_accuracy": _same_presence},
    ask=ask_for_label,
)

COUNTING = PlainTask[int, int](
    name="counting",
    reward="count",
    wanted="count: an integer, e.g. 3",
    read=text_alone(parse_integer),
    read_gold=lambda record: read_as_text(record.answer, parse_integer),
    measures={"accuracy": operator.eq},
)

MATH = PlainTask[str, str](
    name="math",
    reward="math",
    wanted=f'formula: a number or a text of at most {MAX_EXPRESSION_CHARS} characters, e.g. "\\frac{{1}}{{2}}"',
    read=text_alone(parse_expression),
    read_gold=_gold_expression,
    measures={"accuracy": lambda value, gold: same_mathematics(gold, value)},
)
