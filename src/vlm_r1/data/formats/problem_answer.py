"""One key for the question and one for the answer: EasyR1, R1-V and open-r1-multimodal."""

from __future__ import annotations

from vlm_r1.data.formats.base import Example, Format, Row, make_example


def _is_easy_r1(row: Row) -> bool:
    return {"problem", "answer"} <= row.keys()


def _read_easy_r1(row: Row) -> Example:
    """`problem`, with its `<image>` marks, and `answer`. (A `solution` beside it is a worked one, and a column.)"""
    return make_example(row, row["problem"], row["answer"], used=("problem", "answer"))


def _is_r1_v(row: Row) -> bool:
    return {"problem", "solution"} <= row.keys()


def _read_r1_v(row: Row) -> Example:
    """`problem` and `solution`, e.g. "<answer> 3 </answer>"."""
    return make_example(row, row["problem"], row["solution"], used=("problem", "solution"))


EASY_R1 = Format("problem, answer", _is_easy_r1, _read_easy_r1)
R1_V = Format("problem, solution", _is_r1_v, _read_r1_v)
