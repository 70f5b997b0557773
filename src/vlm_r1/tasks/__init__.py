"""Tasks define how a record is asked and how its answers are judged. Each has a line in `TASKS` and docs/tasks.md."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

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
        ConfigError: there is no such task.

    >>> get_task("rec").reward
    'iou'
    """
    found = resolve("task", name, TASKS)
    return found() if isinstance(found, type) else found


__all__ = ["TASKS", "Task", "get_task"]
