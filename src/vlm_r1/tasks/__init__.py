"""Tasks define how a record is asked and how its answers are judged. Each has a line in `TASKS` and docs/tasks.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from vlm_r1.errors import ConfigError
from vlm_r1.registry import resolve
from vlm_r1.tasks.base import Task
from vlm_r1.tasks.choices import CHOICE, YES_NO
from vlm_r1.tasks.gui_click import GuiClick
from vlm_r1.tasks.multi_rec import MultiRec
from vlm_r1.tasks.ovd import Ovd
from vlm_r1.tasks.rec import Rec
from vlm_r1.tasks.texts import CLASSIFICATION, COUNTING, DOCUMENT, GUI_DEFECT, MATH, VQA

TASKS: Mapping[str, Task[Any, Any]] = {
    "rec": Rec(),
    "multi_rec": MultiRec(),
    "ovd": Ovd(),
    "counting": COUNTING,
    "vqa": VQA,
    "choice": CHOICE,
    "yes_no": YES_NO,
    "math": MATH,
    "gui_defect": GUI_DEFECT,
    "gui_click": GuiClick(),
    "classification": CLASSIFICATION,
    "document": DOCUMENT,
}


@cache
def get_task(name: str) -> Task[Any, Any]:
    """Return the task of that name, or a plug-in `package.module:Name` (an instance, or a class without arguments).

    Raises:
        ConfigError: there is no such task, or what has that name is no task; a class is looked at before it is made.

    >>> get_task("rec").reward
    'iou'
    """
    found: Any = resolve("task", name, TASKS)
    if isinstance(found, type):
        _check_members(name, found, _METHODS)
        try:
            found = found()
        except TypeError as error:
            raise ConfigError(f'task "{name}" is a class that cannot be made without arguments: {error}') from error
    _check_members(name, found, (*_METHODS, *_VALUES))
    return found


def main_metric(names: Iterable[str], tasks: Iterable[str]) -> str:
    """Return the main metric of the first task that has its own among the names; else the first name, "" if none.

    Args:
        names: of metrics, as results and steps list them.
        tasks: names of tasks that may be imported (`get_task`), in the order of the recipe.

    >>> main_metric(["iou", "accuracy_iou50"], ["rec"]), main_metric(["map", "iou"], ["counting"]), main_metric([], [])
    ('accuracy_iou50', 'map', '')
    """
    names = list(names)
    mains = (get_task(task).main_metric for task in tasks)
    return next((main for main in mains if main in names), names[0] if names else "")


_METHODS = ("question", "gold", "gold_text", "parse", "to_pixels", "metrics", "answer_json", "boxes")
_VALUES = ("name", "reward", "answer_is_box", "main_metric")


def _check_members(name: str, found: object, members: Sequence[str]) -> None:
    if missing := [member for member in members if not hasattr(found, member)]:
        raise ConfigError(
            f'task "{name}" is {found!r:.100}, which has no {", ".join(missing)}; wanted a task (docs/add_a_task.md)'
        )


__all__ = ["TASKS", "Task", "get_task", "main_metric"]
