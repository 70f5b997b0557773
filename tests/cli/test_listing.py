"""`vlm-r1 tasks|rewards|templates|formats|models`: every name of the table is listed, and one of them is explained."""

from __future__ import annotations

import pytest

from vlm_r1.cli.listing import ANSWERS, LISTS
from vlm_r1.cli.main import main
from vlm_r1.data.formats import FORMATS
from vlm_r1.models import ADAPTERS
from vlm_r1.rewards import REWARDS
from vlm_r1.tasks import TASKS
from vlm_r1.tasks.templates import TEMPLATES

TABLES = {"tasks": TASKS, "rewards": REWARDS, "templates": TEMPLATES, "formats": FORMATS, "models": ADAPTERS}


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_each_list_has_a_table() -> None:
    assert LISTS.keys() == TABLES.keys()
    assert ANSWERS.keys() == TASKS.keys(), "a new task says in cli/listing.py what its answer is"


@pytest.mark.parametrize("command", TABLES)
def test_all_names_are_listed_with_a_sentence(command: str, capsys) -> None:
    assert main([command]) == 0
    shown = capsys.readouterr().out
    table, _, used = shown.rpartition("\n\n")
    assert [line.split()[0] for line in table.splitlines() if line[0] != " "] == [*TABLES[command]]
    assert [line for line in table.splitlines() if len(line.rstrip()) > 80] == []
    assert f"vlm-r1 {command} NAME" in used
    rows = LISTS[command][2]()
    assert all(row.sentence for row in rows.values())


ONE = {
    "a reward with options": (["rewards", "iou_threshold"], ["at=0.5", "r = 1 if IoU(value, gold) > at, strictly"]),
    "another name of a reward": (["rewards", "mcq"], ["the same as choice"]),
    "a task of a class": (["tasks", "rec"], ["reward iou", "one box", "index of the image on which the box lies"]),
    "a task that is a value": (["tasks", "counting"], ["reward count", "a whole number"]),
    "a template": (["templates", "free"], ["thought free", "{question} If it helps, first think in <think>"]),
    "instruction first": (["templates", "r1_ovd"], ["</answer> {question}"]),
    "the problem alone": (["templates", "bare"], ["thought required", "{problem}"]),
    "a format": (["formats", "r1_v"], ["keys problem, solution", '"<answer> 3 </answer>"']),
    "a family": (["models", "qwen2_5_vl"], ["boxes input_pixels", "smart_resize"]),
}


@pytest.mark.parametrize("name", ONE)
def test_one_name(name: str, capsys) -> None:
    words, told = ONE[name]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"{words[1]}\n")
    assert [part for part in told if part not in shown] == []
    assert shown.count(told[-1]) == 1, "nothing is said twice"


@pytest.mark.parametrize("command", TABLES)
def test_an_unknown_name(command: str, capsys) -> None:
    first = next(iter(TABLES[command]))
    assert main([command, f"{first}s"]) == 2
    kind = LISTS[command][0]
    told = capsys.readouterr().err
    assert told.startswith(f'ConfigError: unknown {kind} "{first}s". Did you mean "{first}"? Known: {first}, ')
