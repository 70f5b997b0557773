"""One row of a data file → a record, or the reason why it cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from vlm_r1.config.data import NOTHING, Allowed, DataSource
from vlm_r1.data.access import NOWHERE, Access
from vlm_r1.data.coordinates import Units, to_pixels
from vlm_r1.data.embedded import store_embedded
from vlm_r1.data.folding import Place, fold
from vlm_r1.data.formats import AUTO, Example, get_format, read_row, recognise_row
from vlm_r1.data.formats.base import shown
from vlm_r1.data.image_paths import ImagePaths, image_paths
from vlm_r1.data.images import SWAPS_SIDES, image_orientation
from vlm_r1.data.options import with_options
from vlm_r1.data.reward_keys import reward_of
from vlm_r1.errors import DataError, brief
from vlm_r1.parsing.gold_boxes import boxes_in, misordered_boxes, numbers_of
from vlm_r1.parsing.json_values import beyond_bounds, is_list, is_object
from vlm_r1.registry import exactly
from vlm_r1.types import IMAGE_TOKEN, AnswerValue, Record

BOX_TOLERANCE_PX = 1.0
"""Tolerated distance of a gold box beyond its image: annotations are rounded, and some count the last pixel twice."""

_RECOGNISED_ROWS = 100
"""Number of rows at the start of a file that are tried to recognise its format."""

_BOX_TASKS = ("rec", "multi_rec", "ovd", "gui_click")
"""Tasks whose answers are boxes. They lie on the last image: the question's only one, or else the only one before."""

_REMEMBERED_SIZES = 1 << 17

Measure = Callable[[str, Access], tuple[int, int]]
"""Path of an image, what may be fetched → (width, height) in pixels of the upright image, or a DataError that names the
path."""


@dataclass(frozen=True)
class Problem:
    """Why a line, or a whole file, cannot be used; `source` is e.g. "train.jsonl:7" or "train.jsonl".

    The message is always one short line (`brief`).
    """

    source: str
    message: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", brief(self.message))

    def __str__(self) -> str:
        return f"{self.source}: {self.message}"


def summarise(problems: Sequence[Problem]) -> str:
    """Format the first problems, each on a line: repeated ones once (`fold`), and the number of the others.

    >>> print(summarise([Problem("a.jsonl:1", "not JSON"), Problem("a.jsonl:3", "not JSON")]))
    a.jsonl:1: not JSON
        and 1 more with the same message: line 3
    """
    return "\n".join(fold([Place(problem.source, problem.message) for problem in problems]))


@dataclass(frozen=True)
class RowReader:
    """Reads the rows of one file.

    Attributes:
        source: the file, and the settings by which its records are asked and judged.
        format: name of the format of its rows; AUTO: each row is recognised separately.
        measure: returns the size of an image; None: images are not read and boxes are not compared with them.
        checks: check all images and boxes; False: read an image only if a box cannot be converted without its size.
        allowed: what rows may name.
        cache: folder for embedded pictures; None: `hub.cache_folder()`.
    """

    source: DataSource
    format: str
    measure: Measure | None
    checks: bool = True
    allowed: Allowed = NOTHING
    cache: Path | None = None

    @cached_property
    def places(self) -> ImagePaths:
        """Where the names of images may lead."""
        return image_paths(self.source, self.allowed, self.cache)

    def read(self, line: bytes, number: int) -> Record | Problem:
        """Read the row on this line (or item of a list)."""
        place = f"{self.source.path}:{number}"
        try:
            return self._record(parse_row(line), number, place)
        except DataError as error:
            return Problem(place, str(error))

    def _record(self, row: dict[str, Any], number: int, place: str) -> Record:
        example = read_row(row, self.format, self.source.columns)
        images = tuple(self._image(name) for name in example.images)
        answer = self._in_pixels(example, images)
        if self.checks and self.measure:
            sizes = [self.measure(path, self.places.access) for path in images]
            if self.source.task in _BOX_TASKS and sizes:
                _check_boxes(answer, sizes[-1])
        return Record(
            id=row_id(row, number),
            task=self.source.task,
            problem=example.problem,
            images=images,
            answer=answer,
            thought=example.thought,
            reward=reward_of(example, self._allowed_rewards, self.source.reward),
            source=place,
            template=self.source.template,
            system=(self.source.system_prompt if example.system is None else example.system) or None,
            columns=with_options(example.columns, example.problem, self.source.task),
            row=row,
            history=example.history,
        )

    @cached_property
    def _allowed_rewards(self) -> tuple[str, ...]:
        """Rewards that rows may name beside ours: those that are allowed, and the one that the source names."""
        return (*self.allowed.allowed_rewards, *exactly([self.source.reward]))

    def image_paths(self, line: bytes) -> tuple[str, ...]:
        """Read only the image paths of the row on this line; DataError if it cannot be read."""
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise DataError("not valid JSON") from None
        own = self.source.columns.get("image")
        found = (row.get(own) if own else row.get("image") or row.get("images")) if is_object(row) else None
        items = found if is_list(found) else [found]
        names = [name for name in items if isinstance(name, str)]
        if len(names) < len(items):
            names = read_row(parse_row(line), self.format, self.source.columns).images
        return tuple(self._image(name) for name in names)

    def _image(self, name: str) -> str:
        kept = store_embedded(name, self.cache)
        return self.places.path(name) if kept is None else kept

    def _in_pixels(self, example: Example, images: Sequence[str]) -> AnswerValue:
        """The answer, with boxes in pixels of the upright image."""
        stated, unit = self.source.coordinates, example.coordinates or self.source.coordinates
        if stated not in ("pixels", unit):
            raise DataError(f"coordinates is {stated}, but the row itself says {unit}: remove coordinates")
        box = self.source.box
        if (unit, self.source.orientation) == ("pixels", "upright"):
            return example.answer if box == "xyxy" else to_pixels(example.answer, Units((1, 1), unit, 1, box))
        if box == "xyxy" and (disorder := misordered_boxes(example.answer)):
            raise DataError(disorder)
        earlier = sum(turn.text.count(IMAGE_TOKEN) for turn in example.history)
        shown_last = images[earlier:] or images
        if len(shown_last) != 1:
            raise DataError(f"boxes to be converted need to lie on 1 image, got {len(shown_last)}")
        if self.measure is None:
            raise DataError("boxes cannot be converted to pixels without a look at the image: allow it")
        wh = self.measure(images[-1], self.places.access)
        turn = image_orientation(images[-1], self.places.access) if self.source.orientation == "stored" else 1
        return to_pixels(example.answer, Units((wh[1], wh[0]) if turn in SWAPS_SIDES else wh, unit, turn, box))


def find_format(lines: Iterable[bytes], name: str) -> str:
    """Return the named format; for AUTO the format of the first recognised row, or AUTO if there is none.

    Raises:
        ConfigError: unknown name.
    """
    if name != AUTO:
        get_format(name)
        return name
    for line in islice(lines, _RECOGNISED_ROWS):
        try:
            return recognise_row(parse_row(line))
        except DataError:  # reported when the row is read
            continue
    return AUTO


def parse_row(line: bytes) -> dict[str, Any]:
    """Parse the JSON object on a line.

    Raises:
        DataError: it is no object, or holds a value that JSON cannot write (NaN, 1e999, a lone surrogate).
    """
    text = decoded(line).strip()
    try:
        row = json.loads(text, parse_constant=_no_constant)
        if odd := beyond_bounds(row, text):
            raise DataError(f"the row holds {odd}; no reader can use it")
        json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
    except json.JSONDecodeError as error:
        raise DataError(
            f"not valid JSON: {error.msg} at column {error.colno}. Wanted one JSON object on the line"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"not valid JSON: {error}. Wanted one JSON object on the line") from error
    if not is_object(row):
        raise DataError(f"got {shown(row)}, wanted a JSON object")
    return row


def row_id(row: Any, number: int) -> str:
    """Return the id of a row: its `id`, or else its line number."""
    own = row.get("id") if is_object(row) else None
    return str(number if own is None else own)


def decoded(content: bytes) -> str:
    """Decode a file or line; DataError if it is not UTF-8."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"not UTF-8: byte {content[error.start]:#04x} at position {error.start}. Save the file as UTF-8"
        ) from error


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON")


def _check_boxes(answer: AnswerValue, wh: tuple[int, int]) -> None:
    """Compare boxes with their image; answers without boxes are left to the task."""
    width, height = wh
    if disorder := misordered_boxes(answer):
        raise DataError(disorder)
    for box in boxes_in(answer):
        x1, y1, x2, y2 = box
        if x1 >= x2 or y1 >= y2:
            raise DataError(f"box {numbers_of(box)} has no area; wanted x1 < x2 and y1 < y2")
        if min(x1, y1) < -BOX_TOLERANCE_PX or x2 - width > BOX_TOLERANCE_PX or y2 - height > BOX_TOLERANCE_PX:
            raise DataError(
                f"box {numbers_of(box)} outside its image {width}x{height}; wanted x1, y1, x2, y2 in pixels of the "
                "upright image"
            )


def remember(measure: Measure | None) -> Measure | None:
    """Cache a `measure` for the images of one file: each is read once; its error is repeated for all its records."""
    if measure is None:
        return None
    sizes: dict[str, tuple[int, int] | str] = {}

    def remembered(path: str, access: Access = NOWHERE) -> tuple[int, int]:
        if path not in sizes:
            if len(sizes) == _REMEMBERED_SIZES:
                sizes.clear()
            try:
                sizes[path] = measure(path, access)
            except DataError as error:
                sizes[path] = str(error)
        size = sizes[path]
        if isinstance(size, str):
            raise DataError(size)
        return size

    return remembered
