"""ReasonSeg (LISA): polygons that answer a reasoning question → the box around them.

Like LISA's own reader, this one paints the polygons into a mask from the largest to the smallest. So an ignored region
on top of the target cuts a hole or a corner out of it. The box is that of the mask's target pixels; pixel i reaches
from i to i + 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from vlm_r1.converters.base import Conversion, Converter, Job, Line, clean_text, option
from vlm_r1.converters.files import location, read_json, shown, take
from vlm_r1.converters.pictures import Images, Picture, Unusable, as_json, usable_box
from vlm_r1.errors import DataError
from vlm_r1.parsing.limits import MAX_COORDINATE
from vlm_r1.types import AnswerValue, Box

NO_TARGET = "no target region"
_IGNORED = 1  # the value of ignored pixels; target polygons have 2, 3, …


@dataclass(frozen=True)
class ReasonsegOptions:
    """Treatment of several target regions."""

    boxes: str = option(
        "union", "union: one box around all target regions; each: a box for each region", ("union", "each")
    )


def convert(job: Job, options: ReasonsegOptions) -> Conversion:
    """Convert a folder of pairs `<name>.jpg` and `<name>.json`: one record for each text.

    The task is rec, or multi_rec for the option `each`.

    Raises:
        DataError: the folder has no JSON file, or one has another layout.
    """
    paths = sorted(job.source.glob("*.json"))
    if not paths:
        raise DataError(f"{job.source}: no <name>.json in this folder; wanted ReasonSeg's train, val or test folder")
    root = job.images or job.source
    task = "rec" if options.boxes == "union" else "multi_rec"
    return Conversion(task, root, _lines(job, options, paths, Images(root)))


def _lines(job: Job, options: ReasonsegOptions, paths: list[Path], images: Images) -> Iterator[Line]:
    for path in job.track(paths):
        try:
            row = _read(path)
            texts = [clean_text(text) if isinstance(text, str) else "" for text in take(row, "text", list, path)]
            made = _line(job, options, row, path, images)
        except DataError as error:
            job.tally.drop("file", "cannot be read", example=str(error))
            continue
        if isinstance(made, Unusable):
            job.tally.drop("sentence", made.reason, len(texts), made.example or str(path))
            continue
        job.tally.drop("sentence", "empty", texts.count(""), str(path))
        yield from (replace(made, id=f"{path.stem}-{i}", question=text) for i, text in enumerate(texts) if text)


def _line(job: Job, options: ReasonsegOptions, row: Any, path: Path, images: Images) -> Line | Unusable:
    """Make the image and answer that all texts of a file share."""
    name = f"{path.stem}.jpg"
    picture = images.picture(name, None, job.tally)
    if isinstance(picture, Unusable):
        return picture
    answer = _answer(job, options, row, picture, path)
    if isinstance(answer, Unusable):
        return answer
    return Line("", name, "", answer, {"size": list(picture.wh), "is_sentence": bool(row.get("is_sentence"))})


def _read(path: Path) -> Any:
    """Read a file as UTF-8 or, if it is not, as Windows' western code page, like LISA."""
    try:
        return read_json(path)
    except DataError as error:
        if not isinstance(error.__cause__, UnicodeDecodeError):
            raise
        return read_json(path, encoding="cp1252")


def _answer(job: Job, options: ReasonsegOptions, row: Any, picture: Picture, path: Path) -> AnswerValue | Unusable:
    polygons = _polygons(row, path, job)
    extents = _extents(polygons, picture.wh)
    n_hidden = sum(target for target, _ in polygons) - len(extents)
    job.tally.drop("region", "empty, or wholly ignored", n_hidden, str(path))
    if not extents:
        return Unusable(NO_TARGET)
    if options.boxes == "union":
        x1s, y1s, x2s, y2s = zip(*extents, strict=True)
        extents = [(min(x1s), min(y1s), max(x2s), max(y2s))]
    boxes: list[AnswerValue] = []
    for extent in extents:
        box = usable_box(extent, picture, job.tally)
        if isinstance(box, Unusable):
            return box
        boxes.append(as_json(box))
    return boxes[0] if options.boxes == "union" else boxes


def _polygons(row: Any, path: Path, job: Job) -> list[tuple[bool, list[tuple[int, int]]]]:
    """Return (is a target, corners in whole pixels) for each shape."""
    polygons: list[tuple[bool, list[tuple[int, int]]]] = []
    for i, shape in enumerate(take(row, "shapes", list, path)):
        where = (path, "shapes", i)
        label = take(shape, "label", str, *where).lower()
        points = take(shape, "points", list, *where)
        if label == "flag":  # LISA: meaningless, deprecated
            job.tally.drop("region", "labelled flag")
            continue
        try:
            corners = [(_whole(x), _whole(y)) for x, y in points]
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(
                f"{location(*where, 'points')}: got {shown(points)}, wanted a list of [x, y], each at most "
                f"{MAX_COORDINATE:,.0f}"
            ) from error
        polygons.append(("ignore" not in label, corners))
    return polygons


def _whole(value: Any) -> int:
    """Return a coordinate in whole pixels; ValueError if no picture is so large."""
    number = int(value)
    if abs(number) > MAX_COORDINATE:
        raise ValueError("too large")
    return number


def _extents(polygons: list[tuple[bool, list[tuple[int, int]]]], wh: tuple[int, int]) -> list[Box]:
    """The boxes of the visible pixels of the target polygons, in the order of the file."""
    canvas = Image.new("I", wh)
    draw = ImageDraw.Draw(canvas)
    numbered = [(number, target, corners) for number, (target, corners) in enumerate(polygons, start=_IGNORED + 1)]
    for number, target, corners in sorted(numbered, key=lambda item: -_area(item[2])):
        value = number if target else _IGNORED
        if len(corners) > 1:
            draw.polygon(corners, fill=value, outline=value)
        else:
            draw.point(corners, fill=value)
    mask_HW = np.asarray(canvas)
    extents: list[Box] = []
    for number, target, _ in numbered:
        ys, xs = np.nonzero(mask_HW == number)
        if target and len(xs):
            extents.append((int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1))
    return extents


def _area(corners: list[tuple[int, int]]) -> float:
    """Area inside a polygon, by the shoelace formula."""
    following = corners[1:] + corners[:1]
    return abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(corners, following, strict=True))) / 2


REASONSEG = Converter(
    name="reasonseg",
    summary="ReasonSeg (LISA) → a box for each reasoning question",
    layout="one of train, val and test: <name>.jpg with <name>.json beside it",
    options=ReasonsegOptions,
    convert=convert,
    gives_sizes=False,
)
