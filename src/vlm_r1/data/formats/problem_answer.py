"""Formats with one key for the question and one for the answer: EasyR1, R1-V, open-r1-multimodal, and synonyms."""

from __future__ import annotations

from vlm_r1.data.formats.base import Context, Example, Format, Row, find_answer, has_answer, make_example, shown
from vlm_r1.data.formats.turns import read_pairs
from vlm_r1.errors import DataError

_QUESTIONS = ("problem", "question", "query", "instruction")
"""Keys of the question; a row has one of them."""

_ANSWERS = ("answer", "ground_truth", "solution")
"""Keys of the answer; the first one present counts, or else a synonym."""


_AROUND = ("system", "history")
"""Keys of what is given before the question."""


def _is_easy_r1(row: Row) -> bool:
    return {"problem", "answer"} <= row.keys()


def _read_easy_r1(row: Row) -> Example:
    """Read `problem`, with its `<image>` marks, and `answer`. (A `solution` is a worked one, and becomes a column.)"""
    return make_example(row, row["problem"], row["answer"], used=("problem", "answer"))


def _is_r1_v(row: Row) -> bool:
    return {"problem", "solution"} <= row.keys()


def _read_r1_v(row: Row) -> Example:
    """Read `problem` and `solution`, e.g. "<answer> 3 </answer>"."""
    return make_example(row, row["problem"], row["solution"], used=("problem", "solution"))


def _is_question_answer(row: Row) -> bool:
    return any(key in row for key in _QUESTIONS) and has_answer(row, _ANSWERS)


def _read_question_answer(row: Row) -> Example:
    """Read the one question (`problem`, `question`, …), Alpaca's `input` behind an `instruction`, and the answer.

    As ms-swift and LLaMA-Factory write them, `system` is the system message, and `history` earlier turns:
    [[question, answer], …].
    """
    asked = [key for key in _QUESTIONS if row.get(key) not in (None, "")]
    if len(asked) != 1:
        keys = " and ".join(f'"{key}"' for key in asked or _QUESTIONS)
        raise DataError(f"{keys} {'all look like the question' if asked else 'are empty'}; wanted one of them")
    system, history = row.get("system") or None, row.get("history")
    if not isinstance(system, str | None):
        raise DataError(f'"system" is {shown(system)}, wanted a text')
    context = Context(system=system, history=read_pairs(history) if history else ())
    answer, used = find_answer(row, _ANSWERS)
    question, more = row[asked[0]], row.get("input")
    if asked[0] != "instruction" or not isinstance(more, str) or not more:
        return make_example(row, question, answer, (asked[0], *_AROUND, *used), context=context)
    return make_example(row, f"{question}\n{more}", answer, ("instruction", "input", *_AROUND, *used), context=context)


EASY_R1 = Format("problem, answer", _is_easy_r1, _read_easy_r1)
R1_V = Format("problem, solution", _is_r1_v, _read_r1_v)
QUESTION_ANSWER = Format(
    "problem or question, and answer or solution, or their synonyms",
    _is_question_answer,
    _read_question_answer,
)
