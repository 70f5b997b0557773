"""labelme's JSON files, one beside each picture → detection. A file may hold its picture itself (`imageData`)."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vlm_r1.converters.base import Conversion, Converter, Job, Tally
from vlm_r1.converters.coco_objects import CocoObject
from vlm_r1.converters.counting import extract
from vlm_r1.converters.files import numbers_in, read_json, size_in
from vlm_r1.converters.folders import Folder
from vlm_r1.converters.labelled import (
    Labelled,
    Labels,
    UnlabelledOptions,
    annotation_files,
    labelled_conversion,
    split_of,
    unlabelled,
)
from vlm_r1.converters.pictures import Unusable
from vlm_r1.converters.shapes import NO_NUMBERS, around, ellipse
from vlm_r1.errors import ConfigError, DataError
from vlm_r1.parsing.json_values import is_list, is_object
from vlm_r1.types import Box, Point

NO_AREA = "a shape without an area (point, line)"
OF_SHAPE = "box made from a polygon, a circle, a mask or a turned rectangle"
GROUPED = "box around the parts of one object (group_id)"
NO_LABELME = "is no labelme annotation"
EMBEDDED = "picture written out of its JSON file (imageData)"
HELD = "image not found, though its JSON file holds it; those of other files were found. Lay it beside its JSON file"

_LINES = ("point", "points", "line", "linestrip")
_LEAST_POINTS = {"rectangle": 2, "circle": 2, "mask": 2}
_POLYGON_POINTS = 3


def convert(job: Job, options: UnlabelledOptions) -> Conversion:
    """Convert every JSON file below a folder that has `shapes`.

    Raises:
        DataError: there are no annotations, or the pictures were not found.
        ConfigError: --images is given, but the pictures are inside the JSON files.
    """
    if not job.source.is_dir():
        raise DataError(f"{job.source}: no such folder. Wanted one with JSON files of labelme and their pictures")
    folder = Folder.read(job.source)
    pictures = folder if job.images is None else Folder.read(job.images)
    made: list[Labelled] = []
    held: dict[int, str] = {}
    for path, value in annotation_files(job, folder.ending_in(".json"), read_json, _is_labelme, NO_LABELME):
        one = _labelled(job.tally, value, path, pictures)
        if one.unusable is not None and isinstance(value.get("imageData"), str):
            held[len(made)] = path
        made.append(one)
    if made and len(held) == len(made):
        if job.images is not None:
            raise ConfigError("--images has no effect: the pictures are in the JSON files. Leave it out")
        made = [_written_out(job, one, held[i]) for i, one in enumerate(made)]
        return labelled_conversion(job, options, Labels(made, [job.out.parent]))
    for i in held:
        made[i] = replace(made[i], unusable=Unusable(HELD, held[i]))
    made += unlabelled(made, pictures.pictures, options)
    return labelled_conversion(job, options, Labels(made, [job.source]))


def _is_labelme(value: Any) -> bool:
    return is_object(value) and is_list(value.get("shapes"))


def _written_out(job: Job, one: Labelled, path: str) -> Labelled:
    """The picture written next to the output, named by its content."""
    text = str(read_json(job.source / path)["imageData"])
    try:
        data = base64.b64decode(text.rpartition(",")[2], validate=False)
    except (binascii.Error, ValueError):
        data = b""
    found = extract(job, {"bytes": data})
    if isinstance(found, Unusable):
        return replace(one, unusable=Unusable(found.reason, path))
    job.tally.note(EMBEDDED, example=path)
    return replace(one, name=found, unusable=None)


def _labelled(tally: Tally, value: Mapping[str, Any], path: str, pictures: Folder) -> Labelled:
    named = value.get("imagePath")
    found = pictures.picture_of(path, named if isinstance(named, str) else "")
    name = path if isinstance(found, Unusable) else found
    return Labelled(
        name,
        _objects(tally, value["shapes"], name),
        wh=size_in(value.get("imageWidth"), value.get("imageHeight")),
        splits=split_of(path),
        unusable=found if isinstance(found, Unusable) else None,
    )


def _objects(tally: Tally, shapes: Sequence[Any], picture: str) -> list[CocoObject]:
    """The objects of one file; shapes of one label and `group_id` are parts of one object, as labelme has it."""
    groups: dict[tuple[str, object], list[CocoObject]] = {}
    for i, shape in enumerate(shapes):
        shape = shape if is_object(shape) else {}
        label, group = shape.get("label"), shape.get("group_id")
        label = label if isinstance(label, str) else ""
        box = _box(shape)
        tally.note(OF_SHAPE, _kind(shape) != "rectangle" and not isinstance(box, Unusable), picture)
        key = ("alone", i) if type(group) is not int else ("group", group)
        groups.setdefault((label, key), []).append(CocoObject(label, box))
    return [_joined(tally, parts, picture) for parts in groups.values()]


def _joined(tally: Tally, parts: Sequence[CocoObject], picture: str) -> CocoObject:
    boxes = [part.box for part in parts if not isinstance(part.box, Unusable)]
    if len(parts) == 1 or len(boxes) < len(parts):
        return next((part for part in parts if isinstance(part.box, Unusable)), parts[0])
    tally.note(GROUPED, example=picture)
    return replace(parts[0], box=around(corner for x1, y1, x2, y2 in boxes for corner in ((x1, y1), (x2, y2))))


def _kind(shape: Mapping[str, Any]) -> str:
    kind = shape.get("shape_type")
    return kind if isinstance(kind, str) else "polygon"  # labelme before 3.0 has polygons alone


def _box(shape: Mapping[str, Any]) -> Box | Unusable:
    kind, points = _kind(shape), _points(shape.get("points"))
    if kind in _LINES:
        return Unusable(NO_AREA)
    if points is None or len(points) < _LEAST_POINTS.get(kind, _POLYGON_POINTS):
        return Unusable(NO_NUMBERS)
    if kind != "circle":
        return around(points)  # corners of a rectangle may be drawn in any order
    radius = math.dist(points[0], points[1])
    return ellipse(points[0], (radius, radius))


def _points(value: Any) -> list[Point] | None:
    numbers = [numbers_in(point, 2) for point in value] if is_list(value) else [None]
    return None if None in numbers else [(point[0], point[1]) for point in numbers if point]


LABELME = Converter(
    name="labelme",
    summary="labelme's JSON files → detection",
    layout="a.json with shapes beside a.jpg, in any folders below the source",
    options=UnlabelledOptions,
    convert=convert,
    gives_sizes=False,
    example="photos/ --negatives 1:3",
)
