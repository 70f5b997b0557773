"""Label Studio's JSON and JSON-MIN exports → detection: boxes in percent of the picture, turned about their corner."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from vlm_r1.converters.base import Conversion, Converter, Job, Tally
from vlm_r1.converters.coco_objects import CocoObject
from vlm_r1.converters.cvat import annotation_file
from vlm_r1.converters.files import numbers_in, read_json, shown, size_in
from vlm_r1.converters.labelled import Labelled, LabelledOptions, Labels, labelled_conversion
from vlm_r1.converters.pictures import Unusable
from vlm_r1.converters.shapes import DISORDER, NO_NUMBERS, around, ellipse, rotated
from vlm_r1.errors import DataError
from vlm_r1.parsing.json_values import is_list, is_object
from vlm_r1.types import Box

CANCELLED = "cancelled (skipped) by its annotator"
PREDICTION = "of a model, not of an annotator"
NOT_ANNOTATED = "not annotated"
SEVERAL = "annotated several times; mark one annotation as ground truth"
NO_AREA = "a brush stroke or a key point, not a box"
OF_SHAPE = "box made from a polygon, an ellipse or a turned box"
NO_PICTURE = "without a picture"
SEVERAL_PICTURES = "with regions of several pictures"
OF_WHOLE = "of the whole picture, not of a region"

_KINDS = ("rectangle", "polygon", "ellipse", "brush", "keypoint")
_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")
"""Label Studio puts eight digits before the name of an uploaded file."""


def convert(job: Job, options: LabelledOptions) -> Conversion:
    """Convert the JSON or JSON-MIN export, with the pictures beside it or in --images.

    Raises:
        DataError: the file is no such export, or the pictures were not found.
    """
    path = annotation_file(job.source, ".json", "result.json")
    tasks = read_json(path)
    if not is_list(tasks):
        raise DataError(f"{path}: got {shown(tasks)}, wanted a list of tasks: export JSON or JSON-MIN")
    pictures: list[Labelled] = []
    for i, task in enumerate(job.track(tasks)):
        made = _labelled(job.tally, task) if is_object(task) else Unusable("cannot be read")
        if isinstance(made, Unusable):
            job.tally.drop("task", made.reason, example=f"{path.name}[{i}]")
        else:
            pictures.append(made)
    folder = path.parent
    return labelled_conversion(job, options, Labels(pictures, [folder, folder / "images", folder.parent / "images"]))


def _labelled(tally: Tally, task: Mapping[str, Any]) -> Labelled | Unusable:
    regions = _regions(tally, task)
    if isinstance(regions, Unusable):
        return regions
    own = task.get("data")
    data = own if is_object(own) else task
    names = list(dict.fromkeys(one["to_name"] for one in regions if isinstance(one.get("to_name"), str)))
    if len(names) > 1:
        return Unusable(SEVERAL_PICTURES)
    key = _key_of_picture(data, names)
    paths = picture_names(str(data[key])) if key is not None else []
    if not paths:
        return Unusable(NO_PICTURE)
    sizes = (size_in(one.get("original_width"), one.get("original_height")) for one in regions)
    wh = next(filter(None, sizes), None)
    objects = [_object(tally, one, wh, paths[0]) for one in _joined(tally, regions)]
    return Labelled(paths[0], objects, wh=wh, other_names=tuple(paths[1:]), fractions=True)


def _regions(tally: Tally, task: Mapping[str, Any]) -> list[dict[str, Any]] | Unusable:
    """The regions of the one annotation of a task that counts.

    An export of before 2021 calls them completions. JSON-MIN has the regions themselves, under the name of their tag.
    """
    annotations = task.get("annotations", task.get("completions"))
    if not is_list(annotations):
        listed = [value for value in task.values() if is_list(value)]
        regions = [dict(one) for value in listed for one in value if is_object(one) and "original_width" in one]
        return regions if regions or "annotation_id" in task else Unusable(NOT_ANNOTATED)
    tally.drop("prediction", PREDICTION, len(task["predictions"]) if is_list(task.get("predictions")) else 0)
    found = [one for one in annotations if is_object(one) and is_list(one.get("result"))]
    kept = [one for one in found if one.get("was_cancelled") is not True]
    tally.drop("annotation", CANCELLED, len(found) - len(kept))
    kept = [one for one in kept if one.get("ground_truth") is True] or kept
    if len(kept) != 1:
        return Unusable(SEVERAL if kept else NOT_ANNOTATED)
    return [{**one, **one["value"]} for one in kept[0]["result"] if is_object(one) and is_object(one.get("value"))]


def _key_of_picture(data: Mapping[str, Any], tags: Sequence[str]) -> str | None:
    """The key of the task's picture: the tag that the regions are of, or the first that looks like a picture."""
    keys = [key for key in (*tags, "image", "img", *data) if isinstance(data.get(key), str)]
    found = (key for key in keys if re.search(r"\.(jpe?g|png|bmp|webp|tiff?|gif)\b", data[key], re.IGNORECASE))
    return next(found, keys[0] if keys and keys[0] in (*tags, "image") else None)


def picture_names(value: str) -> list[str]:
    """The paths that a task's picture may have, the fullest first; none for what is no path and no URL.

    >>> picture_names("/data/local-files/?d=boats/a%20b.jpg")
    ['boats/a b.jpg', 'a b.jpg']
    >>> picture_names("/data/upload/3/1a2b3c4d-cat.jpg")
    ['upload/3/1a2b3c4d-cat.jpg', '1a2b3c4d-cat.jpg', 'cat.jpg']
    >>> picture_names("s3://bucket/a.jpg")
    ['s3://bucket/a.jpg', 'a.jpg']
    """
    try:
        address = urlsplit(value)
    except ValueError:  # http://[
        return []
    local = parse_qs(address.query).get("d", [""])[0]
    is_remote = "://" in value and not local
    path = value if is_remote else (local or unquote(address.path)).removeprefix("/data/").lstrip("/")
    last = unquote(address.path).rpartition("/")[2] if is_remote else path.replace("\\", "/").rpartition("/")[2]
    uploaded = _UPLOADED.fullmatch(last)
    return list(dict.fromkeys(name for name in (path, last, uploaded[1] if uploaded else "") if name))


def _joined(tally: Tally, regions: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Regions with one id are one: separate tags may give its shape and its label."""
    by_id: dict[object, dict[str, Any]] = {}
    for i, region in enumerate(regions):
        own = region.get("id")
        key = own if isinstance(own, str) else i
        by_id[key] = {**by_id.get(key, {}), **region}
    for region in by_id.values():
        if {"x", "points", "rle", "format"} & region.keys():
            yield region
        else:
            tally.drop("answer", OF_WHOLE)


def _object(tally: Tally, region: Mapping[str, Any], wh: tuple[int, int] | None, picture: str) -> CocoObject:
    keys = [f"{kind}labels" for kind in _KINDS] + ["labels"]
    labels = [label for key in keys if is_list(region.get(key)) for label in region[key] if isinstance(label, str)]
    box = _box(region, wh)
    is_plain = "width" in region and not region.get("rotation")
    tally.note(OF_SHAPE, not is_plain and not isinstance(box, Unusable), picture)
    tally.note("region with several labels, of which the first counts", len(labels) > 1, picture)
    return CocoObject(labels[0].strip() if labels else "", box)


def _box(region: Mapping[str, Any], wh: tuple[int, int] | None) -> Box | Unusable:
    """The box of a region in fractions of its picture. Angles are of pixels, so turning needs the picture's sides."""
    if "rle" in region or ("x" in region and not {"height", "radiusY"} & region.keys()) or "format" in region:
        return Unusable(NO_AREA)
    points = region.get("points")
    if is_list(points):
        pairs = [numbers_in(point, 2) for point in points]
        if None in pairs or len(pairs) < 3:
            return Unusable(NO_NUMBERS)
        return around((point[0] / 100, point[1] / 100) for point in pairs if point)
    keys = ("x", "y", "width", "height") if "width" in region else ("x", "y", "radiusX", "radiusY")
    numbers, angle = numbers_in([region.get(key) for key in keys], 4), numbers_in([region.get("rotation") or 0], 1)
    if numbers is None or angle is None or (angle[0] and wh is None):
        return Unusable(NO_NUMBERS)
    if min(numbers[2:]) < 0:
        return Unusable(DISORDER)
    width, height = wh or (1, 1)
    x, y, a, b = (number * side / 100 for number, side in zip(numbers, (width, height) * 2, strict=True))
    box = rotated((x, y, x + a, y + b), angle[0], (x, y)) if "width" in region else ellipse((x, y), (a, b), angle[0])
    return (box[0] / width, box[1] / height, box[2] / width, box[3] / height)


LABEL_STUDIO = Converter(
    name="label-studio",
    summary="Label Studio's JSON export → detection",
    layout="the JSON or JSON-MIN export, and the pictures beside it, in images/ or in --images",
    options=LabelledOptions,
    convert=convert,
    gives_sizes=False,
    example="project-1.json --images media/",
)
