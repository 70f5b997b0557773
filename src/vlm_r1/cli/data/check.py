"""Find every bad line of a data file, and score each gold answer with its own reward."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from vlm_r1.data.jsonl import Problem
    from vlm_r1.tasks import Task
    from vlm_r1.tasks.templates import Template
    from vlm_r1.types import ImageFrame, Record, Score

_FULL_MARKS = 1 - 1e-6
_ROUNDED_MARKS = 0.5
"""Least accuracy of a gold box with fractions of a pixel, which a model can only write rounded."""

_UNKNOWN_WH = (1, 1)
"""Stands for the size of an image that is not looked at: boxes in original pixels convert without it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the file and how its records are asked and judged."""
    parser.add_argument("file", help="JSONL file in the VLM-R1 line format (docs/data.md)")
    parser.add_argument(
        "--image-root", default="", help="folder that image paths are relative to (default: the file's)"
    )
    parser.add_argument("--task", default="rec", help="task that asks and judges (default: rec)")
    parser.add_argument("--reward", help="accuracy reward of records that name none (default: the task's own)")
    parser.add_argument("--template", default="r1", help="how the question is put (default: r1)")
    parser.add_argument("--no-images", action="store_true", help="do not look at image files")


def run(args: argparse.Namespace) -> int:
    """Report on the file; 1 if it is not all well.

    Raises:
        ConfigError: an option names something unknown.
    """
    from rich.console import Console

    from vlm_r1.data.images import load_image
    from vlm_r1.data.jsonl import Problem, iter_jsonl, summarise
    from vlm_r1.errors import ConfigError, DataError
    from vlm_r1.registry import resolve
    from vlm_r1.rewards import REWARDS
    from vlm_r1.tasks import get_task
    from vlm_r1.tasks.templates import get_template

    task, template = get_task(args.task), get_template(args.template)
    if args.reward:
        resolve("reward", args.reward, REWARDS)
    sizes_wh: dict[str, tuple[int, int]] = {}

    def measure(path: str) -> tuple[int, int]:
        sizes_wh[path] = load_image(path).size  # decoded whole: a header may promise more than the file holds
        return sizes_wh[path]

    judged: list[tuple[Record, Score]] = []
    problems: list[Problem] = []
    found_in_file = iter_jsonl(
        args.file,
        image_root=args.image_root,
        task=args.task,
        reward=args.reward,
        measure=None if args.no_images else measure,
    )
    for found in _with_progress(found_in_file, args.file):
        if isinstance(found, Problem):
            problems.append(found)
            continue
        try:
            judged.append((found, _judge_gold(found, _frames(found, sizes_wh), task, template)))
        except (DataError, ConfigError) as error:
            problems.append(Problem(found.source, str(error).removeprefix(f"{found.source}: ")))
    low = [problem for record, score in judged for problem in _disagreement(record, score, task)]
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if judged:
        console.print(_facts(args, judged, task, list(sizes_wh.values())))
    for title, listed in (("cannot be used", problems), ("gold answer does not earn full marks", low)):
        if listed:
            console.print(f"\n{title}: {len(listed)}\n{summarise(listed)}")
    console.print("\nnot ready for training" if problems or low else "\nall well")
    return 1 if problems or low else 0


def _with_progress(found_in_file: Iterable[Record | Problem], path: str) -> Iterable[Record | Problem]:
    """Show a bar with the remaining time, on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    if not console.is_terminal or not os.path.isfile(path):
        return found_in_file
    with open(path, "rb") as lines:
        total = sum(1 for _ in lines)
    return track(found_in_file, "checking", total=total, console=console, transient=True)


def _frames(record: Record, sizes_wh: dict[str, tuple[int, int]]) -> tuple[ImageFrame, ...]:
    from vlm_r1.types import ImageFrame

    sizes = [sizes_wh.get(path, _UNKNOWN_WH) for path in record.images]
    return tuple(ImageFrame(original_wh=wh, input_wh=wh) for wh in sizes)


def _judge_gold(record: Record, frames: tuple[ImageFrame, ...], task: Task, template: Template) -> Score:
    """The score of the completion that a perfect model would write."""
    from vlm_r1.tasks.judge import ACCURACY, Attempt, check_gold, judge
    from vlm_r1.tasks.templates import build_prompt, gold_completion
    from vlm_r1.types import BoxFormat

    build_prompt(task, record, template)
    if all(frame.original_wh != _UNKNOWN_WH for frame in frames):
        check_gold(record, frames)
    text = gold_completion(task, record, frames, BoxFormat.ORIGINAL_PIXELS, template)
    weights = {ACCURACY: 1.0, "format": 1.0}
    attempt = Attempt(text, record, frames, task, template)
    return judge([attempt], BoxFormat.ORIGINAL_PIXELS, weights)[0]


def _disagreement(record: Record, score: Score, task: Task) -> list[Problem]:
    """What is wrong if the gold answer does not earn full marks; nothing if it does."""
    from vlm_r1.data.jsonl import Problem

    fractions = any(edge != round(edge) for box in task.boxes(task.gold(record)) for edge in box)
    wanted = {"accuracy": _ROUNDED_MARKS if fractions else _FULL_MARKS, "format": _FULL_MARKS}
    low = [f"{name} {score.parts[name]:.3g}" for name, least in wanted.items() if score.parts[name] < least]
    if not low:
        return []
    reason = f" ({score.reason})" if score.reason else ""
    reward = record.reward or task.reward
    message = (
        f'the gold answer {record.answer!r:.80} scores {", ".join(low)}{reason} by the reward "{reward}"; wanted 1'
    )
    return [Problem(record.source, message)]


def _facts(
    args: argparse.Namespace,
    judged: Sequence[tuple[Record, Score]],
    task: Task,
    sizes_wh: Sequence[tuple[int, int]],
) -> Table:
    """What the good records are like."""
    from rich.table import Table

    records = [record for record, _ in judged]
    table = Table(title=args.file, title_justify="left", show_header=False, box=None)
    table.add_row("good records", f"{len(records)}")
    table.add_row("task", args.task)
    table.add_row("images per record", _histogram(len(record.images) for record in records))
    table.add_row("image sizes", "not looked at" if args.no_images else _size_range(sizes_wh))
    table.add_row("answers", _histogram(_type_name(record.answer) for record in records))
    table.add_row("with a thought", f"{sum(record.thought is not None for record in records)}")
    table.add_row("reward", _histogram(record.reward or task.reward for record in records))
    for name in ("accuracy", "format"):
        values = [score.parts[name] for _, score in judged]
        table.add_row(f"gold {name}", f"mean {sum(values) / len(values):.4f}, least {min(values):.4f}")
    return table


def _histogram(values: Iterable[object]) -> str:
    """The commonest values with their numbers, e.g. "2 (1797)"."""
    common = Counter(values).most_common(6)
    return ", ".join(f"{value} ({n})" for value, n in common) or "–"


def _size_range(sizes_wh: Sequence[tuple[int, int]]) -> str:
    if not sizes_wh:
        return "–"
    by_area = sorted(sizes_wh, key=lambda wh: (wh[0] * wh[1], wh))
    chosen = {"smallest": by_area[0], "median": by_area[len(by_area) // 2], "largest": by_area[-1]}
    return ", ".join(f"{name} {width}x{height}" for name, (width, height) in chosen.items()) + f", {len(by_area)} read"


def _type_name(answer: object) -> str:
    names = {str: "text", bool: "boolean", int: "number", float: "number", list: "list", dict: "object"}
    return names[type(answer)]
