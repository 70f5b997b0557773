"""Apple's Create ML JSON, as Roboflow and others write it → detection: boxes as centre, width and height in pixels."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vlm_r1.converters.base import Conversion, Converter, Job
from vlm_r1.converters.coco_objects import CocoObject
from vlm_r1.converters.files import location, numbers_in, read_json, shown
from vlm_r1.converters.folders import Folder
from vlm_r1.converters.labelled import Labelled, LabelledOptions, Labels, labelled_conversion, split_of
from vlm_r1.converters.pictures import Unusable
from vlm_r1.converters.shapes import DISORDER, NO_NUMBERS
from vlm_r1.data.coordinates import to_corners
from vlm_r1.errors import DataError
from vlm_r1.parsing.json_values import is_list, is_object
from vlm_r1.types import Box

_NUMBERS = ("x", "y", "width", "height")


def convert(job: Job, options: LabelledOptions) -> Conversion:
    """Convert a JSON file, or all `*createml*.json` below a folder, each with the pictures beside it.

    Raises:
        DataError: there is no such file, one has another layout, or the pictures were not found.
    """
    pictures: list[Labelled] = []
    for inner, path in files_below(job.source, ".json", "createml"):
        rows = read_json(path)
        if not is_list(rows):
            raise DataError(f"{path}: got {shown(rows)}, wanted a list of images with annotations")
        for i, row in enumerate(job.track(rows)):
            name = (
                next((row[key] for key in ("image", "imagefilename") if key in row), None) if is_object(row) else None
            )
            if not isinstance(name, str) or not name.strip():
                job.tally.drop("image", "without a file name", example=location(path, i))
                continue
            pictures.append(beside(inner, name.strip(), _objects(row)))
    root = job.source if job.source.is_dir() else job.source.parent
    return labelled_conversion(job, options, Labels(pictures, [root, root / "images", root.parent / "images"]))


def files_below(source: Path, ending: str, part: str) -> list[tuple[str, Path]]:
    """The annotation files of a source, each with its folder relative to the source.

    Args:
        source: such a file, or a folder.
        ending: of their names, e.g. ".json".
        part: what their names hold; if none does, all with the ending count.

    Raises:
        DataError: there is none.
    """
    if not source.is_dir():
        return [("", source)]
    found = Folder.read(source).ending_in(ending)
    found = [path for path in found if part in posixpath.basename(path).lower()] or found
    if not found:
        raise DataError(f"{source}: no file *{ending} in it. Name the file itself as the source")
    return [(posixpath.dirname(path), source / path) for path in found]


def beside(inner: str, name: str, objects: Sequence[CocoObject], **more: Any) -> Labelled:
    """A picture that lies in the folder of its annotation file, or in `images` there."""
    plain = name if "://" in name else name.replace("\\", "/")
    others = (posixpath.join(inner, "images", plain), plain) if inner else ()
    more = {"splits": split_of(f"{inner}/{plain}"), **more}
    return Labelled(plain if "://" in plain else posixpath.join(inner, plain), objects, other_names=others, **more)


def _objects(row: dict[str, Any]) -> list[CocoObject]:
    listed = next((row[key] for key in ("annotations", "annotation") if key in row), None)
    return [_object(one if is_object(one) else {}) for one in listed] if is_list(listed) else []


def _object(one: dict[str, Any]) -> CocoObject:
    label, place = one.get("label"), one.get("coordinates")
    return CocoObject(label.strip() if isinstance(label, str) else "", _box(place if is_object(place) else {}))


def _box(place: dict[str, Any]) -> Box | Unusable:
    numbers = numbers_in([place.get(key) for key in _NUMBERS], 4)
    if numbers is None:
        return Unusable(NO_NUMBERS)
    return Unusable(DISORDER) if min(numbers[2:]) < 0 else to_corners(numbers, "cxcywh")


CREATEML = Converter(
    name="createml",
    summary="Create ML's JSON → detection",
    layout="<split>/_annotations.createml.json with the pictures beside it, or one such file",
    options=LabelledOptions,
    convert=convert,
    gives_sizes=False,
    example="boats/ --split train",
)
