"""The original VLM-R1: its training lines, and the lists of its evaluation files."""

from __future__ import annotations

from vlm_r1.data.formats.base import Example, Format, Row, make_example, shown
from vlm_r1.data.formats.turns import read_turns
from vlm_r1.errors import DataError


def _is_training(row: Row) -> bool:
    return "conversations" in row


def _read_training(row: Row) -> Example:
    """`conversations`: one turn of the human, which asks, and one of gpt, which is the gold answer.

    As ShareGPT has it, a turn of the system may stand before them, or its text under the key `system`. The roles may be
    called user and assistant too.
    """
    wanted = ', wanted one turn "from": "human", then one "from": "gpt"'
    turns = read_turns(row["conversations"], '"conversations" is', wanted)
    if not isinstance(row["conversations"], list) or len(row["conversations"]) == 1 + (turns.system is not None):
        raise DataError(f'"conversations" is {shown(row["conversations"])}{wanted}')
    apart = row.get("system") or None
    if turns.system and apart and apart != turns.system:
        raise DataError('a turn of the system and the key "system" differ; wanted one of them')
    if not isinstance(apart, str | None):
        raise DataError(f'"system" is {shown(apart)}, wanted a text')
    used = ("conversations", "system")
    return make_example(row, turns.question, turns.gold, used, names=turns.names, system=turns.system or apart)


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
