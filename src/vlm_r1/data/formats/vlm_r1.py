"""The original VLM-R1: its training lines, and the lists of its evaluation files."""

from __future__ import annotations

from dataclasses import replace

from vlm_r1.data.formats.base import Example, Format, Row, make_example, shown
from vlm_r1.data.formats.turns import read_turns
from vlm_r1.errors import DataError


def _is_training(row: Row) -> bool:
    return "conversations" in row


def _read_training(row: Row) -> Example:
    """Read `conversations`: a turn of "human" with the question, and one of "gpt" with the gold answer.

    As in ShareGPT, a turn of "system" may come before them, or the key `system` may hold its text, and earlier turns
    of both may stand between. The roles may also be called user and assistant.
    """
    wanted = ', wanted turns "from": "human" and "from": "gpt" in turn, the last with the answer'
    turns = read_turns(row["conversations"], '"conversations" is', wanted)
    context = turns.context
    if not turns.answered:
        raise DataError(f'"conversations" is {shown(row["conversations"])}{wanted}')
    apart = row.get("system") or None
    if context.system and apart and apart != context.system:
        raise DataError('a turn of the system and the key "system" differ; wanted one of them')
    if not isinstance(apart, str | None):
        raise DataError(f'"system" is {shown(apart)}, wanted a text')
    used = ("conversations", "system")
    context = replace(context, system=context.system or apart)
    return make_example(row, turns.question, turns.gold, used, context=context)


def _is_evaluation(row: Row) -> bool:
    return {"problem", "solution", "normalized_solution"} <= row.keys()


def _read_evaluation(row: Row) -> Example:
    """Read `problem` and `solution`, a box in pixels; `normalized_solution` is the same box in 0–1000, rounded down.

    The original compares a model's box with one or the other, depending on whether its numbers look normalised. Here
    the model family defines the coordinates, so the more exact box is enough.
    """
    used = ("problem", "solution", "normalized_solution")
    return make_example(row, row["problem"], row["solution"], used, coordinates="pixels")


VLM_R1 = Format("conversations", _is_training, _read_training)
VLM_R1_EVAL = Format("problem, solution, normalized_solution", _is_evaluation, _read_evaluation)
