"""Lines of the original VLM-R1 format → records, with every bad line named (docs/data.md)."""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vlm_r1.data.images import image_size
from vlm_r1.errors import DataError
from vlm_r1.parsing.tags import read_gold
from vlm_r1.types import IMAGE_TOKEN, AnswerValue, Record

MAX_LISTED = 20
"""Bad lines that an error spells out; the rest is counted."""

BOX_TOLERANCE_PX = 1.0
"""How far a gold box may reach over its image: annotations are rounded, and some count the last pixel twice."""

Measure = Callable[[str], tuple[int, int]]
"""Path of an image → (width, height) in pixels, or a DataError that names the path."""


@dataclass(frozen=True)
class Problem:
    """Why a line, or a whole file, cannot be used; `source` is e.g. "train.jsonl:7" or "train.jsonl"."""

    source: str
    message: str

    def __str__(self) -> str:
        return f"{self.source}: {self.message}"


def read_jsonl(
    path: str | os.PathLike[str], *, image_root: str | os.PathLike[str] = "", task: str, reward: str | None = None
) -> list[Record]:
    """Read a data file in which every line must be good.

    Args:
        path: JSONL file.
        image_root: folder that image paths are relative to; empty: the file's own folder.
        task: task of all its records, e.g. "rec".
        reward: accuracy reward of records without `accu_reward_method`; None: the task's own.

    Raises:
        DataError: names all bad lines as `file:line: …` (see `summarise`), or a file that is missing or empty.
    """
    records, problems = scan_jsonl(path, image_root=image_root, task=task, reward=reward)
    if problems:
        raise DataError(summarise(problems))
    return records


def scan_jsonl(
    path: str | os.PathLike[str], *, image_root: str | os.PathLike[str] = "", task: str, reward: str | None = None
) -> tuple[list[Record], list[Problem]]:
    """Like `read_jsonl`, but return the good records and the problems instead of raising. Image headers are read."""
    found = list(iter_jsonl(path, image_root=image_root, task=task, reward=reward, measure=image_size))
    return [r for r in found if isinstance(r, Record)], [p for p in found if isinstance(p, Problem)]


def iter_jsonl(
    path: str | os.PathLike[str],
    *,
    image_root: str | os.PathLike[str],
    task: str,
    reward: str | None,
    measure: Measure | None,
) -> Iterator[Record | Problem]:
    """Yield a record or a problem for each line that is not blank; a missing or empty file is one problem.

    Args:
        measure: called once for each image file; None: image files are not looked at, nor boxes compared with them.
    """
    root = os.path.abspath(image_root or os.path.dirname(os.path.abspath(path)))
    reader = _LineReader(root, task, reward, _remember(measure) if measure else None)
    empty = True
    try:
        for source, line in _lines(path):
            empty = False
            yield reader.read(line, source)
    except OSError as error:
        yield Problem(os.fspath(path), f"cannot read the data file: {error.strerror}")
        return
    if empty:
        yield Problem(os.fspath(path), "holds no records; wanted one JSON object on each line")


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[str, bytes]]:
    """`file:line` and content of each line that is not blank."""
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if line.strip():
                yield f"{os.fspath(path)}:{number}", line


def summarise(problems: Sequence[Problem]) -> str:
    """The first `MAX_LISTED` problems in full, one to a line, and the number of the others.

    >>> print(summarise([Problem("a.jsonl:1", "not JSON")]))
    a.jsonl:1: not JSON
    """
    lines = [str(problem) for problem in problems[:MAX_LISTED]]
    if len(problems) > MAX_LISTED:
        lines.append(f"… and {len(problems) - MAX_LISTED} more, {len(problems)} in all")
    return "\n".join(lines)


@dataclass(frozen=True)
class _LineReader:
    """What all lines of a file share."""

    root: str
    task: str
    reward: str | None
    measure: Measure | None

    def read(self, line: bytes, source: str) -> Record | Problem:
        try:
            return self._record(_json_object(line), source)
        except DataError as error:
            return Problem(source, str(error))

    def _record(self, row: dict[str, Any], source: str) -> Record:
        names = _image_names(row)
        question, gold = _turns(row)
        images = tuple(os.path.abspath(os.path.join(self.root, name)) for name in names)
        thought, answer = _gold(gold)
        if self.measure:
            sizes = [self.measure(path) for path in images]
            if self.task == "rec" and len(sizes) == 1:
                _check_box(answer, sizes[0])
        return Record(
            id=str(row.get("id", source.rpartition(":")[2])),
            task=self.task,
            problem=_place_images(question, len(images)),
            images=images,
            answer=answer,
            thought=thought,
            reward=_reward(row) or self.reward,
            source=source,
        )


def _json_object(line: bytes) -> dict[str, Any]:
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(
            f"not UTF-8: byte {line[error.start]:#04x} at position {error.start}. Save the file as UTF-8"
        ) from error
    try:
        row = json.loads(text, parse_constant=_no_constant)
        json.dumps(
            row, ensure_ascii=False
        ).encode()  # half a surrogate pair is JSON, but could never be written out again
    except json.JSONDecodeError as error:
        raise DataError(
            f"not valid JSON: {error.msg} at column {error.colno}. Wanted one JSON object on the line"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"not valid JSON: {error}. Wanted one JSON object on the line") from error
    if not isinstance(row, dict):
        raise DataError(f"got {_shown(row)}, wanted a JSON object with the keys image and conversations")
    return row


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def _image_names(row: dict[str, Any]) -> list[str]:
    value = row.get("image")
    names = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) and name for name in names):
        raise DataError(f'"image" is {_shown(value)}, wanted a path, a list of paths, or no such key')
    return names


def _turns(row: dict[str, Any]) -> tuple[str, Any]:
    """The human's question and the gold answer."""
    if "conversations" not in row:
        raise DataError(f'the key "conversations" is missing, got the keys {", ".join(row) or "(none)"}')
    turns = row["conversations"]
    if not isinstance(turns, list) or [t.get("from") if isinstance(t, dict) else None for t in turns] != [
        "human",
        "gpt",
    ]:
        raise DataError(f'"conversations" is {_shown(turns)}, wanted one turn "from": "human", then one "from": "gpt"')
    for turn in turns:
        if "value" not in turn:
            raise DataError(f'the {turn["from"]} turn has no "value"')
    question, gold = (turn["value"] for turn in turns)
    if not isinstance(question, str):
        raise DataError(f'the human "value" is {_shown(question)}, wanted a text')
    return question, gold


def _gold(value: Any) -> tuple[str | None, AnswerValue]:
    """Thought and answer, the tags of a text taken off."""
    thought = None
    if isinstance(value, str):
        thought, value = read_gold(value)
    if value is None or value == "":
        raise DataError('the gpt "value" holds no answer; wanted a text, number, list or object')
    return thought, value


def _place_images(question: str, n_images: int) -> str:
    """Give the question one `<image>` for each image; without any, images come first (as in the original VLM-R1)."""
    marks = question.count(IMAGE_TOKEN)
    if marks == 0:
        return IMAGE_TOKEN * n_images + question
    if marks != n_images:
        raise DataError(
            f"{marks} {IMAGE_TOKEN} in the question for {n_images} image{'s' * (n_images != 1)}; "
            f"wanted one {IMAGE_TOKEN} for each image, or none at all (then the images come first)"
        )
    return question


def _reward(row: dict[str, Any]) -> str | None:
    reward = row.get("accu_reward_method")
    if reward is not None and not isinstance(reward, str):
        raise DataError(f'"accu_reward_method" is {_shown(reward)}, wanted the name of a reward, or no such key')
    return reward


def _check_box(answer: AnswerValue, wh: tuple[int, int]) -> None:
    """Compare a box with its image; an answer in any other form is the task's to understand."""
    answer = _list_in(answer) if isinstance(answer, str) else answer
    if not isinstance(answer, list) or len(answer) != 4:
        return
    numbers = [v for v in answer if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < 4:
        return
    x1, y1, x2, y2 = box = tuple(numbers)
    if x1 >= x2 or y1 >= y2:
        raise DataError(f"box {box} has no area; wanted x1 < x2 and y1 < y2")
    width, height = wh
    if min(x1, y1) < -BOX_TOLERANCE_PX or x2 - width > BOX_TOLERANCE_PX or y2 - height > BOX_TOLERANCE_PX:
        raise DataError(
            f"box {box} outside its image {width}x{height}; wanted x1, y1, x2, y2 in pixels of the upright image"
        )


def _list_in(text: str) -> AnswerValue:
    try:
        return json.loads(text, parse_constant=_no_constant) if text.startswith("[") else text
    except (ValueError, RecursionError):
        return text


def _remember(measure: Measure) -> Measure:
    """Look at each file once, though many records may share it, and repeat its error for each of them."""
    sizes: dict[str, tuple[int, int] | str] = {}

    def remembered(path: str) -> tuple[int, int]:
        if path not in sizes:
            try:
                sizes[path] = measure(path)
            except DataError as error:
                sizes[path] = str(error)
        size = sizes[path]
        if isinstance(size, str):
            raise DataError(size)
        return size

    return remembered


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:80]}…"
