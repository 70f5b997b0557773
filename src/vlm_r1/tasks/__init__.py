"""Tasks: how a record is asked and how its answers are judged. One file per task, one line in `TASKS`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from vlm_r1.registry import resolve
from vlm_r1.tasks.base import Task
from vlm_r1.tasks.counting import Counting
from vlm_r1.tasks.math import Math
from vlm_r1.tasks.ovd import Ovd
from vlm_r1.tasks.rec import Rec
from vlm_r1.tasks.vqa import Vqa

TASKS: Mapping[str, type[Task[Any, Any]]] = {
    "rec": Rec,
    "ovd": Ovd,
    "counting": Counting,
    "vqa": Vqa,
    "math": Math,
}


@cache
def get_task(name: str) -> Task[Any, Any]:
    """The task of that name, or of `package.module:Name` (a class without arguments, or an instance).

    Raises:
        ConfigError: there is none.

    >>> get_task("rec").reward
    'iou'
    """
    found = resolve("task", name, TASKS)
    return found() if isinstance(found, type) else found


__all__ = ["TASKS", "Task", "get_task"]
