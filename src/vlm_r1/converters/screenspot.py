"""ScreenSpot, ScreenSpot-v2 and ScreenSpot-Pro → GUI clicks: an instruction and the region to click."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_r1.converters.base import Conversion, Converter, Job, Line, clean_text, option
from vlm_r1.converters.files import integer_in, location, read_json, shown, take, take_numbers
from vlm_r1.converters.pictures import Images, Unusable, as_json, find_images, from_xywh, usable_box
from vlm_r1.errors import DataError
from vlm_r1.parsing.json_values import is_list, is_object
from vlm_r1.types import AnswerValue, Box

_DESCRIBES = ("data_type", "data_source", "platform", "application", "ui_type", "group")
"""Keys that are copied into the line, so that results can be split by kind of element, platform or program."""


@dataclass(frozen=True)
class ScreenspotOptions:
    """The files to convert."""

    part: str | None = option(None, "files whose name holds this, e.g. mobile, desktop, web (default: all)")


def convert(job: Job, options: ScreenspotOptions) -> Conversion:
    """Convert the folder of the JSON files, or one of them: one record for each instruction.

    Boxes are [x, y, width, height] in ScreenSpot and v2, and [x1, y1, x2, y2] in Pro, which has the key `img_size`.

    Raises:
        DataError: the source has another layout, or its images were not found.
    """
    paths = _files(job.source, options.part)
    rows = {path: _rows(path) for path in paths}
    pictures = (row.get("img_filename") for path in paths for row in rows[path] if is_object(row))
    folder = job.source if job.source.is_dir() else job.source.parent
    names = ("", "screenspot_imgs", "screenspotv2_image", "images")
    candidates = [base / name for base in (folder, folder.parent) for name in names]
    images = find_images(job, candidates, (name for name in pictures if isinstance(name, str)))
    return Conversion("gui_click", images.root, _lines(job, rows, images))


def _files(source: Path, part: str | None) -> list[Path]:
    if source.is_file():
        return [source]
    found = sorted(source.glob("screenspot*.json")) or sorted((source / "annotations").glob("*.json"))
    chosen = [path for path in found if part is None or part in path.stem]
    if not chosen:
        names = ", ".join(path.name for path in found) or "none"
        raise DataError(f"{source}: no screenspot_*.json{f' with {part!r} in its name' if part else ''}; found {names}")
    return chosen


def _rows(path: Path) -> list[Any]:
    rows = read_json(path)
    if not is_list(rows):
        raise DataError(f"{path}: got {shown(rows)}, wanted a list")
    return rows


def _lines(job: Job, rows: dict[Path, list[Any]], images: Images) -> Iterator[Line]:
    numbered = [(path, i, row) for path, of_path in rows.items() for i, row in enumerate(of_path)]
    for path, i, row in job.track(numbered):
        try:
            made = _line(job, path, i, row, images)
        except DataError as error:
            made = Unusable("cannot be read", str(error))
        if isinstance(made, Unusable):
            job.tally.drop("instruction", made.reason, example=made.example or location(path, i))
        else:
            yield made


def _line(job: Job, path: Path, i: int, row: Any, images: Images) -> Line | Unusable:
    name = take(row, "img_filename", str, path, i)
    question = clean_text(take(row, "instruction", str, path, i))
    annotated_wh, corners = _box(row, path, i)
    picture = images.picture(name, annotated_wh, job.tally)
    if isinstance(picture, Unusable):
        return picture
    box = usable_box(corners, picture, job.tally)
    if isinstance(box, Unusable):
        return box
    if not question:
        return Unusable("empty")
    extra: dict[str, AnswerValue] = {"size": list(picture.wh)}
    extra |= {key: clean_text(row[key]) for key in _DESCRIBES if isinstance(row.get(key), str)}
    id_ = row["id"] if isinstance(row.get("id"), str) else f"{path.stem}-{i}"
    return Line(id_, picture.name, question, as_json(box), extra)


def _box(row: Any, path: Path, i: int) -> tuple[tuple[int, int] | None, Box]:
    """Return the annotated size of the image, if there is one, and the region."""
    x, y, a, b = take_numbers(row, "bbox", 4, path, i)
    if "img_size" not in row:
        return None, from_xywh([x, y, a, b])
    size = [integer_in(side) for side in take(row, "img_size", list, path, i)]
    wh = (size[0], size[1]) if len(size) == 2 and size[0] and size[1] else None
    return wh, (x, y, a, b)


SCREENSPOT = Converter(
    name="screenspot",
    summary="ScreenSpot, v2 and Pro → GUI clicks",
    layout="screenspot_{mobile,desktop,web}[_v2].json and screenspot_imgs/ (Pro: annotations/*.json, images/)",
    options=ScreenspotOptions,
    convert=convert,
)
