"""List the names that a recipe, or an option, can choose from; with a NAME, say more about that one.

  vlm-r1 tasks                    what can be asked, and the reward that judges it
  vlm-r1 rewards                  what an answer can be worth
  vlm-r1 rewards iou_threshold    the formula of one reward, and its options
  vlm-r1 templates                the words around a question
  vlm-r1 formats                  the keys of a row, by which its format is recognised
  vlm-r1 models                   the families, and the coordinates in which they write boxes

Each of them may be your own instead: package.module:Name (docs/security.md says who may name it).
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from vlm_r1.runtime.terminal import Terminal
    from vlm_r1.tasks.templates import Template


class Row(NamedTuple):
    """What is said about a name: a word, a sentence, and the text of its documentation."""

    word: str
    sentence: str
    text: str


ANSWERS = {
    "rec": "one box: where is what the words describe?",
    "multi_rec": "all boxes of what the words describe; there may be none",
    "ovd": "boxes with labels: detection of the objects that the question names",
    "counting": "a whole number: how many?",
    "vqa": "a short text",
    "choice": "one of several options, by its letter or its text",
    "yes_no": "yes or no",
    "math": "a number or a formula",
    "gui_defect": "the name of a defect of a user interface, or No Defect",
    "gui_click": "a point: where to click in a screenshot",
    "classification": "the name of a class",
    "document": "a text that stands in a document",
}
"""What the answer of each task is."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the name that is explained."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="say more about this one (default: list all)")


def run(args: argparse.Namespace) -> int:
    """Print the table, or what is known about one name.

    Raises:
        ConfigError: there is no such name.
    """
    from vlm_r1.errors import ConfigError
    from vlm_r1.registry import suggestion
    from vlm_r1.runtime.terminal import Terminal

    kind, used, rows_of = LISTS[args.command]
    rows, console = rows_of(), Terminal()
    if args.name is None:
        _print_table(console, rows)
        console.print(f"\n{used}. More about one of them: vlm-r1 {args.command} NAME", soft_wrap=True)
        return 0
    if args.name not in rows:
        raise ConfigError(f'unknown {kind} "{args.name:.100}". {suggestion(args.name, rows)}Known: {", ".join(rows)}')
    row = rows[args.name]
    console.print(args.name, style="bold")
    for part in (row.word, "" if row.text.startswith(row.sentence) else row.sentence, row.text):
        if part:
            console.print(part, soft_wrap=True)
    return 0


def _print_table(console: Terminal, rows: Mapping[str, Row]) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold", max_width=24)
    table.add_column(overflow="fold")
    for name, row in rows.items():
        table.add_row(name, row.word, row.sentence)
    console.print(table)


def _tasks() -> dict[str, Row]:
    from vlm_r1.tasks import TASKS
    from vlm_r1.tasks.plain import PlainTask

    return {
        name: Row(f"reward {task.reward}", ANSWERS[name], "" if isinstance(task, PlainTask) else _text(task))
        for name, task in TASKS.items()
    }


def _rewards() -> dict[str, Row]:
    from vlm_r1.rewards import REWARDS

    return _rows(REWARDS, _options)


def _templates() -> dict[str, Row]:
    from vlm_r1.tasks.templates import TEMPLATES

    return {name: Row(f"thought {one.thinking.value}", _words(one), "") for name, one in TEMPLATES.items()}


def _formats() -> dict[str, Row]:
    from vlm_r1.data.formats import FORMATS

    return {name: _row(f"keys {one.wants}", one.read) for name, one in FORMATS.items()}


def _models() -> dict[str, Row]:
    from vlm_r1.cli.console import quiet_libraries

    quiet_libraries()
    from vlm_r1.models import ADAPTERS

    return _rows(ADAPTERS, lambda family: f"boxes {family.box_format.value}")


LISTS: Mapping[str, tuple[str, str, Callable[[], dict[str, Row]]]] = {
    "tasks": ("task", "A recipe names a task in data.train.0.task, a command in --task (docs/tasks.md)", _tasks),
    "rewards": ("reward", "A recipe names a reward in data.train.0.reward or in rewards (docs/rewards.md)", _rewards),
    "templates": ("template", "A recipe names a template in data.template (docs/tasks.md)", _templates),
    "formats": ("format", "A format is recognised by the keys of a row, or named by format (docs/data.md)", _formats),
    "models": ("model family", "A family is chosen by the model_type of a checkpoint (docs/models.md)", _models),
}
"""For each command: what it lists, where a name is used, and its rows."""


def _rows(table: Mapping[str, Any], word: Callable[[Any], str]) -> dict[str, Row]:
    """Make the rows of documented objects; of one with several names the later ones refer to the first."""
    first: dict[Any, str] = {}
    return {
        name: _row(word(found), found)
        if (same := first.setdefault(found, name)) == name
        else Row("", f"the same as {same}", "")
        for name, found in table.items()
    }


def _row(word: str, documented: object) -> Row:
    text = _text(documented)
    return Row(word, text.partition("\n")[0], text)


def _text(documented: object) -> str:
    return inspect.getdoc(documented) or ""


def _options(reward: Callable[..., Any]) -> str:
    """Return the options of a reward with their defaults, e.g. "at=0.5"."""
    parameters = inspect.signature(reward).parameters.values()
    return ", ".join(f"{one.name}={one.default!r}" for one in parameters if one.kind is one.KEYWORD_ONLY)


def _words(template: Template) -> str:
    """Return the words that a template adds to a question."""
    question = "{question}" if template.wraps else "{problem}"
    boxes = f"(for boxes: {template.box_instruction})" if template.box_instruction else ""
    words = " ".join(template.instruction.split())
    parts = (words, question, boxes) if template.instruction_first else (question, words, boxes)
    return " ".join(filter(None, parts))
