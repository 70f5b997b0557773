"""The original VLM-R1: its training lines, and the lists of its evaluation files."""

from __future__ import annotations

from typing import Any

from vlm_r1.data.formats.base import Example, Format, Row, make_example, shown
from vlm_r1.errors import DataError


def _is_training(row: Row) -> bool:
    return "conversations" in row


def _read_training(row: Row) -> Example:
    """`conversations`: one turn of the human, which asks, and one of gpt, which is the gold answer."""
    question, gold = _turns(row)
    return make_example(row, question, gold, used=("conversations",))


def _turns(row: Row) -> tuple[Any, Any]:
    turns = row["conversations"]
    roles = [t.get("from") if isinstance(t, dict) else None for t in turns] if isinstance(turns, list) else []
    if roles != ["human", "gpt"]:
        raise DataError(f'"conversations" is {shown(turns)}, wanted one turn "from": "human", then one "from": "gpt"')
    for turn in turns:
        if "value" not in turn:
            raise DataError(f'the {turn["from"]} turn has no "value"')
    return turns[0]["value"], turns[1]["value"]


def _is_evaluation(row: Row) -> bool:
    return {"problem", "solution", "normalized_solution"} <= row.keys()


def _read_evaluation(row: Row) -> Example:
    """`problem` and `solution`, a box in pixels. `normalized_solution` is the same box from 0 to 1000, rounded down.

    The original compares a model's box with the one or the other, by whether its numbers look normalised; here
    the family says which it writes, so the finer one is enough.
    """
    used = ("problem", "solution", "normalized_solution")
    return make_example(row, row["problem"], row["solution"], used, coordinates="pixels")


VLM_R1 = Format("conversations", _is_training, _read_training)
VLM_R1_EVAL = Format("problem, solution, normalized_solution", _is_evaluation, _read_evaluation)
