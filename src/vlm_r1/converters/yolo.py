"""YOLO's folders (Ultralytics, Roboflow, Darknet, CVAT, Label Studio) → detection.

A label file has one object a line: the number of its category, then a box (centre, width, height), the corners of a
turned box, or a polygon, all as fractions of the picture. The numbers lie on the upright picture: Ultralytics' trainer
decodes pictures by OpenCV, which turns them by EXIF.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_r1.config.yaml_text import NO_YAML, read_yaml
from vlm_r1.converters.base import Conversion, Converter, Job
from vlm_r1.converters.coco_objects import CocoObject
from vlm_r1.converters.files import integer_in, numbers_in, read_plain, shown
from vlm_r1.converters.folders import Folder, labels_of
from vlm_r1.converters.labelled import (
    UNLABELLED,
    Labelled,
    Labels,
    UnlabelledOptions,
    labelled_conversion,
    of_split,
    split_name,
    split_of,
)
from vlm_r1.converters.pictures import NOT_FOUND, Unusable
from vlm_r1.converters.shapes import DISORDER, NO_NUMBERS, around
from vlm_r1.data.coordinates import to_corners
from vlm_r1.errors import DataError, brief
from vlm_r1.parsing.json_values import is_list, is_object
from vlm_r1.types import Box

OF_POLYGON = "box made from a polygon or a turned box"
BAD_LINE = "a line of its label file has no known category"
BAD_FILE = "its label file cannot be read"
NOT_FRACTIONS = "not of fractions from 0 to 1 of its image"
NO_PICTURE = "without a picture"

_NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels", "labels.txt", "names.txt")
"""Files of one category name a line, for folders without a data.yaml: of LabelImg and Label Studio, CVAT, Roboflow."""

_SPLIT_KEYS = ("train", "val", "valid", "test")
_TOLERANCE = 0.01
"""Fractions this far outside 0 to 1 are clipped with their image; further ones are probably pixels."""


@dataclass(frozen=True)
class _Layout:
    """What `data.yaml`, or a file of names, says.

    Attributes:
        folder: the folder of the data set.
        names: number of a category → its name.
        splits: split → its pictures; without splits, "" has all of them.
        n_keypoints: how many numbers of key points follow the box on a line.
    """

    folder: Folder
    names: Mapping[int, str]
    splits: Mapping[str, Sequence[str]]
    n_keypoints: int = 0


def convert(job: Job, options: UnlabelledOptions) -> Conversion:
    """Convert a folder with `data.yaml` (or `classes.txt`), `images/…` and `labels/…`.

    Raises:
        DataError: there are no names of categories, or a split leads elsewhere.
        ConfigError: an option would have no effect.
    """
    layout = _layout(job)
    listed: dict[str, tuple[str, ...]] = {}
    for split, pictures in layout.splits.items():
        for picture in pictures:
            listed[picture] = (*listed.get(picture, ()), *([split] if split else split_of(picture)))
    pictures = of_split(list(listed), list(listed.values()), options.split, job)
    known = frozenset(layout.folder.files)
    made = [_labelled(picture, listed[picture], layout, known, options) for picture in job.track(pictures)]
    for one in made:
        job.tally.note(OF_POLYGON, one.n_polygons, one.labelled.name)
    used = {path for picture in listed for path in labels_of(picture)}
    left = [path for path in layout.folder.ending_in(".txt") if "labels" in path.split("/")[:-1] and path not in used]
    job.tally.drop("label file", NO_PICTURE, len(left), left[0] if left else "")
    names = [layout.names[number] for number in sorted(layout.names)]
    return labelled_conversion(job, options, Labels([one.labelled for one in made], [layout.folder.root], names))


def _layout(job: Job) -> _Layout:
    source = job.source
    base = job.images or (source if source.is_dir() else source.parent)
    folder = Folder.read(base)
    path = source if source.is_file() else _description(source)
    if path.suffix.lower() not in (".yaml", ".yml"):
        names = [line.strip() for line in read_plain(path).splitlines()]
        return _Layout(folder, {i: name for i, name in enumerate(names) if name}, {"": folder.pictures})
    try:
        value = read_yaml(read_plain(path))
    except NO_YAML as error:
        raise DataError(f"{path}: not valid YAML: {brief(str(error))}") from error
    if not is_object(value):
        raise DataError(f"{path}: got {shown(value)}, wanted the keys names, train, val")
    splits = _splits(value, path, folder, job)
    return _Layout(folder, _names(value.get("names"), path), splits, _keypoints(value.get("kpt_shape"), path))


def _description(source: Path) -> Path:
    """The YAML file with `names` in a folder, or else its file of names."""
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder")
    found = sorted(path for path in source.iterdir() if path.suffix.lower() in (".yaml", ".yml"))
    found = [path for path in found if "names:" in read_plain(path)]
    preferred = [path for path in found if path.stem == "data"] or found
    if len(preferred) > 1:
        listed = ", ".join(path.name for path in preferred)
        raise DataError(f"{source}: it has several descriptions, {listed}. Name one of them as the source")
    others = [source / name for name in _NAME_FILES if (source / name).is_file()]
    if not preferred and not others:
        raise DataError(f"{source}: no data.yaml with names in it, and no {_NAME_FILES[0]}. Wanted a YOLO data set")
    return (preferred or others)[0]


def _names(value: Any, path: Path) -> dict[int, str]:
    """The names by number, from a list or an object; the numbers of an object need not be consecutive."""
    pairs: list[tuple[Any, Any]] = list(enumerate(value)) if is_list(value) else []
    pairs += list(value.items()) if is_object(value) else []
    names = {integer_in(key): str(name).strip() for key, name in pairs if isinstance(name, (str, int, float))}
    found = {number: name for number, name in names.items() if number is not None and name}
    if not pairs or len(found) < len(pairs):
        raise DataError(f"{path}: names is {shown(value)}, wanted a list of names, or numbers with names")
    return found


def _keypoints(value: Any, path: Path) -> int:
    if value is None:
        return 0
    numbers = numbers_in(value, 2)
    if numbers is None or numbers[0] < 1 or numbers[1] not in (2, 3):
        raise DataError(f"{path}: kpt_shape is {shown(value)}, wanted [number of key points, 2 or 3]")
    return int(numbers[0] * numbers[1])


def _splits(value: Mapping[str, Any], path: Path, folder: Folder, job: Job) -> dict[str, list[str]]:
    """The pictures of each split that is below the folder; those of a split that is not there are an error if none is.

    Raises:
        DataError: no split leads to pictures below the folder.
    """
    inner = str(value.get("path") or "")
    missing: list[str] = []
    splits: dict[str, list[str]] = {}
    for key in _SPLIT_KEYS:
        places = value.get(key)
        for place in places if is_list(places) else [places]:
            if place in (None, ""):
                continue
            found = _pictures(str(place), inner, folder, job)
            if found:
                splits.setdefault(split_name(key), []).extend(found)
            else:
                missing.append(f"{key}: {shown(place)}")
    if missing and not splits:
        raise DataError(
            f"{path}: no pictures for {missing[0]} in {folder.root}. Name the folder of the data set by --images"
        )
    return splits or {"": folder.pictures}


def _pictures(place: str, inner: str, folder: Folder, job: Job) -> list[str]:
    """The pictures of a folder, or of a text file with one path a line, or one picture."""
    found = (folder.find(f"{inner}/{place}") if inner else None) or folder.find(place)
    if found is None:
        return []
    if found.endswith(".txt"):
        base = found.rpartition("/")[0]
        lines = read_plain(folder.root / found).splitlines()
        paths = {line: folder.find(line, base) for line in map(str.strip, lines) if line}
        gone = [line for line, path in paths.items() if path is None]
        job.tally.drop("image", NOT_FOUND, len(gone), f"{found}: {gone[0]}" if gone else "")
        return [path for path in paths.values() if path is not None]
    start = "" if found in ("", ".") else f"{found}/"
    return [path for path in folder.pictures if path.startswith(start) or path == found]


@dataclass(frozen=True)
class _Made:
    labelled: Labelled
    n_polygons: int = 0


def _labelled(
    picture: str, splits: tuple[str, ...], layout: _Layout, known: frozenset[str], options: UnlabelledOptions
) -> _Made:
    """The objects of one picture."""
    path = next((path for path in labels_of(picture) if path in known), None)
    if path is None:
        unusable = None if options.unlabelled == "empty" else Unusable(UNLABELLED, picture)
        return _Made(Labelled(picture, [], splits=splits, unusable=unusable))
    try:
        lines = [line.split() for line in read_plain(layout.folder.root / path).splitlines() if line.strip()]
    except DataError as error:
        return _Made(Labelled(picture, [], splits=splits, unusable=Unusable(BAD_FILE, str(error))))
    objects = [read_line(words, layout.names, layout.n_keypoints) for words in lines]
    n_polygons = sum(len(words) > 6 and len(words) != 5 + layout.n_keypoints for words in lines)
    unknown = next((" ".join(w) for w, item in zip(lines, objects, strict=True) if not item.label), None)
    unusable = None if unknown is None else Unusable(BAD_LINE, f"{path}: {unknown}")
    return _Made(Labelled(picture, objects, splits=splits, fractions=True, unusable=unusable), n_polygons)


def read_line(words: Sequence[str], names: Mapping[int, str], n_keypoints: int = 0) -> CocoObject:
    """Read one line of a label file; a malformed one yields an object without a label or with an `Unusable` box.

    Five words are a box, and a sixth is a confidence or the number of a track. More words are key points after a box,
    where data.yaml says so, or else the corners of a turned box or a polygon.

    >>> read_line("0 0.5 0.5 0.25 0.5".split(), {0: "cat"}).box
    (0.375, 0.25, 0.625, 0.75)
    >>> read_line("0 0.1 0.2 0.3 0.2 0.3 0.6".split(), {0: "cat"}).box
    (0.1, 0.2, 0.3, 0.6)
    """
    number = integer_in(words[0])
    label = "" if number is None else names.get(number, "")
    as_box = len(words) in (5, 6) or (n_keypoints and len(words) == 5 + n_keypoints)
    numbers = numbers_in([*words[1:5]] if as_box else [*words[1:]], 4 if as_box else len(words) - 1)
    if numbers is None or len(numbers) < 4 or (not as_box and len(numbers) < 6):
        return CocoObject(label, Unusable(NO_NUMBERS))
    if as_box:
        return CocoObject(label, _fractions(to_corners(numbers, "cxcywh")) if min(numbers[2:]) >= 0 else _DISORDER)
    numbers = numbers[: len(numbers) // 2 * 2]  # an odd number of them ends in a confidence
    return CocoObject(label, _fractions(around(zip(numbers[::2], numbers[1::2], strict=True))))


_DISORDER = Unusable(DISORDER)


def _fractions(box: Box) -> Box | Unusable:
    x1, y1, x2, y2 = box
    centre = ((x1 + x2) / 2, (y1 + y2) / 2)
    inside = all(-_TOLERANCE <= edge <= 1 + _TOLERANCE for edge in centre) and max(x2 - x1, y2 - y1) <= 1 + _TOLERANCE
    return box if inside else Unusable(NOT_FRACTIONS)


YOLO = Converter(
    name="yolo",
    summary="a YOLO data set → detection",
    layout="data.yaml with names and splits (or classes.txt), images/train/*.jpg and labels/train/*.txt",
    options=UnlabelledOptions,
    convert=convert,
    gives_sizes=False,
    example="boats/ --split train --negatives 1:3",
)
