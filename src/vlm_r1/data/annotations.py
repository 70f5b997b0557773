"""What one annotation file of another tool is: an error can then name the command that converts it.

Files are recognised by their names and keys. Pictures, boxes and texts are not looked at, and no pickle is opened.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from xml.parsers import expat

from vlm_r1.config.yaml_text import NO_YAML, read_yaml
from vlm_r1.files import open_regular, read_bytes, read_text
from vlm_r1.parsing.json_values import is_list, is_object

MAX_BYTES = 1 << 30
"""Larger files are not read to be recognised."""

_MAX_SMALL_BYTES = 1 << 22
"""The same for files that describe one picture or one data set."""

_REFS = re.compile(r"(?:.*[_-])?g?refs\((?P<by>[\w-]+)\)\.(?:p|json)")
_D3 = frozenset(("sentences.pkl", "annotations.pkl", "images.pkl", "groups.pkl"))
_YOLO_LINE = re.compile(rb"\d+(?:\s+\d*\.?\d+(?:[eE][+-]?\d+)?){4,}\s*")

_HEAVY = ("segmentation", "points", "imageData", "coordinates", "keypoints")
"""Keys whose values are dropped while a file is read."""

_ANNOTATION: dict[str, Any] = {"image_id": 0, "category_id": 0}
"""Stands for every annotation in COCO's form, of which there may be millions."""

_BOX_COLUMNS = (
    *("xmin ymin xmax ymax", "x_min y_min x_max y_max", "x1 y1 x2 y2", "left top right bottom"),
    *("x y w h", "x y width height", "left top width height", "bbox_x bbox_y bbox_width bbox_height", "bbox", "box"),
)
_PICTURE_COLUMNS = frozenset(
    ("image", "filename", "file", "file_name", "path", "image_path", "image_name", "image_id", "imageid", "img")
)
_NAME_COLUMNS = ("class", "label", "name", "category", "class_name", "label_name", "labelname")

NEGATIVES = ("--negatives", "1:3")
"""Option of the converters whose sources say which names are absent."""


@dataclass(frozen=True)
class Found:
    """A file or folder of another tool.

    Attributes:
        what: e.g. "COCO instances".
        converter: name of the converter that reads it.
        source: what the converter is to read.
        n_pictures: how many pictures it describes; None: not counted.
        names: the different names of its objects; None: not read.
        options: further options of the command.
    """

    what: str
    converter: str
    source: Path
    n_pictures: int | None = None
    names: frozenset[str] | None = None
    options: tuple[str, ...] = ()


def recognise_file(path: Path) -> Found | None:
    """Return what a file of another tool is; None if it is of no tool that is known, or cannot be read."""
    reader = _READERS.get(path.suffix.lower())
    try:
        if not path.is_file():
            return None
        if by_name := _by_name(path):
            return by_name
        return reader(path) if reader and path.stat().st_size <= MAX_BYTES else None
    except (OSError, ValueError, RecursionError, csv.Error, expat.ExpatError):
        return None


def _by_name(path: Path) -> Found | None:
    """Recognise the files of RefCOCO and of D³; their pickles are programs, and are not opened."""
    folder, refs = path.parent, _REFS.fullmatch(path.name)
    if refs is None and path.name == "instances.json":
        refs = next(filter(None, (_REFS.fullmatch(name) for name in sorted(_names_in(folder)))), None)
    if refs:
        return Found("RefCOCO", "refcoco", folder, options=("--by", refs["by"]))
    if path.name in _D3 and _names_in(folder) >= _D3:
        return Found("D³", "d3", folder)
    return None


def _names_in(folder: Path) -> set[str]:
    try:
        return {path.name for path in folder.iterdir()}
    except OSError:
        return set()


# ---- JSON ------------------------------------------------------------------------------------------------------------


def _read_json(path: Path) -> Found | None:
    value = json.loads(read_text(path, "utf-8-sig"), object_hook=_slim)
    if is_object(value):
        return _json_object(path, value)
    rows = [row for row in value if is_object(row)] if is_list(value) else []
    return of_rows(path, rows) if rows else None


def _slim(row: dict[str, Any]) -> dict[str, Any]:
    if "image_id" in row and "category_id" in row:
        return _ANNOTATION
    for key in _HEAVY:
        if key in row:
            row[key] = None
    return row


def _json_object(path: Path, value: dict[str, Any]) -> Found | None:
    if is_list(value.get("shapes")):
        names = _texts(shape.get("label") for shape in _objects(value["shapes"]))
        if "imagePath" in value:
            return Found("labelme", "labelme", path.parent, 1, names)
        return Found("ReasonSeg", "reasonseg", path.parent) if is_list(value.get("text")) else None
    if not all(is_list(value.get(key)) for key in ("images", "annotations", "categories")):
        return None
    if not any(row is _ANNOTATION for row in value["annotations"]):
        return None  # captions, or the segments of a panoptic file
    pictures, names = len(value["images"]), _texts(row.get("name") for row in _objects(value["categories"]))
    keys = {key for row in _objects(value["images"]) for key in row}
    if "neg_category_ids" in keys:
        return Found("LVIS", "lvis", path, pictures, names, NEGATIVES)
    if {"text", "neg_text"} <= keys:
        return Found("OVDEval", "ovdeval", path, pictures, names)
    if path.name.startswith("d3_"):
        return Found("D³", "d3", path, pictures, names)
    return Found("COCO instances", "coco", path, pictures, names, NEGATIVES)


def of_rows(path: Path, rows: list[dict[str, Any]]) -> Found | None:
    """Recognise a list of rows by the keys of the first."""
    first = rows[0]
    if {"image", "annotations"} <= first.keys() and any("coordinates" in one for one in _objects(first["annotations"])):
        labels = (one.get("label") for row in rows for one in _objects(row.get("annotations")))
        pictures = len(_texts(row.get("image") for row in rows))
        return Found("CreateML", "createml", path, pictures, _texts(labels), NEGATIVES)
    if is_object(first.get("data")) and any(is_list(first.get(key)) for key in ("annotations", "completions")):
        results = (one for row in rows for one in _objects(row.get("annotations") or row.get("completions")))
        return _label_studio(path, len(rows), (one.get("result") for one in results))
    if any("original_width" in one for value in first.values() for one in _objects(value)):  # its shorter form
        return _label_studio(path, len(rows), (value for row in rows for value in row.values()))
    if {"img_filename", "bbox", "instruction"} <= first.keys():
        return Found("ScreenSpot", "screenspot", path, len(_texts(row.get("img_filename") for row in rows)))
    if {"label", "count", "points"} <= first.keys():
        return Found("PixMo-Count", "pixmo-count", path, len(rows))
    if {"text", "number"} <= first.keys() and {"image", "image_url"} & first.keys():
        questions = path.parent / "countbench_paired_questions.json"
        options = () if "question" in first else ("--questions", str(questions))
        return Found("CountBench", "countbench", path, len(rows), options=options)
    return None


def _label_studio(path: Path, n_tasks: int, results: Iterable[object]) -> Found:
    regions = [region for result in results for region in _objects(result)]
    values = (region["value"] if is_object(region.get("value")) else region for region in regions)
    lists: Iterator[object] = (value.get("rectanglelabels") for value in values)
    labels = chain.from_iterable(found for found in lists if is_list(found))
    return Found("Label Studio", "label-studio", path, n_tasks, _texts(labels), NEGATIVES)


def _objects(value: object) -> Iterator[dict[str, Any]]:
    yield from (row for row in value if is_object(row)) if is_list(value) else ()


def _texts(values: Iterable[object]) -> frozenset[str]:
    return frozenset(value for value in values if isinstance(value, str))


# ---- XML -------------------------------------------------------------------------------------------------------------


def _read_xml(path: Path) -> Found | None:
    root, pictures, names = xml_contents(path)
    if root == "annotation":
        return Found("Pascal VOC", "voc", path.parent, 1, frozenset(names))
    if root != "annotations" or not pictures:
        return None
    return Found("CVAT", "cvat", path, pictures, frozenset(names), NEGATIVES)


def xml_contents(path: Path) -> tuple[str, int, set[str]]:
    """Return the root element of an XML file, the number of its elements `image`, and the names of its objects.

    A file with a DTD is refused, since its entities may grow without end.

    Raises:
        OSError: the file cannot be read.
        ExpatError, ValueError: it is no XML, or has a DTD.
    """
    tags: list[str] = []
    roots: list[str] = []
    names: set[str] = set()
    texts: list[str] = []
    n_images = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal n_images
        roots.append(tag) if not roots else None
        tags.append(tag)
        texts.clear()
        n_images += tag == "image"
        if "label" in attributes and "image" in tags:
            names.add(attributes["label"])

    def end(_: str) -> None:
        if tags[-2:] == ["object", "name"]:
            names.add("".join(texts).strip())
        tags.pop()

    def refuse(*_: object) -> None:
        raise ValueError("a DTD is not read")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = texts.append, refuse
    with open_regular(path) as file:
        parser.ParseFile(file)
    return roots[0], n_images, names


# ---- YAML, text and tables -------------------------------------------------------------------------------------------


def _read_yaml(path: Path) -> Found | None:
    if path.stat().st_size > _MAX_SMALL_BYTES:
        return None
    try:
        value: Any = read_yaml(read_text(path))
    except NO_YAML:
        return None
    if not is_object(value) or not {"train", "val", "test", "path", "nc"} & value.keys():
        return None
    names = value.get("names")
    if not is_list(names) and not is_object(names):
        return None
    return Found("YOLO", "yolo", path, None, _texts(names.values() if is_object(names) else names), NEGATIVES)


def names_of_classes(path: Path) -> frozenset[str] | None:
    """The names in a file that has one a line; None: it cannot be read."""
    try:
        return frozenset(line.strip() for line in read_text(path).splitlines()) - {""}
    except (OSError, ValueError):
        return None


def is_yolo_text(path: Path) -> bool:
    """Whether a text file has YOLO's lines: the number of a class, then at least four numbers."""
    try:
        if path.stat().st_size > _MAX_SMALL_BYTES:
            return False
        lines = read_bytes(path).split(b"\n")
    except OSError:
        return False
    written = [line for line in lines if line.strip()]
    return bool(written) and all(map(_YOLO_LINE.fullmatch, written))


def _read_text(path: Path) -> Found | None:
    if not is_yolo_text(path):
        return None
    parts = path.parent.parts
    if "labels" not in parts:
        return Found("YOLO", "yolo", path.parent)
    above = parts[: len(parts) - 1 - parts[::-1].index("labels")]
    return Found("YOLO", "yolo", Path(*above) if above else Path())


def _read_table(path: Path) -> Found | None:
    with io.TextIOWrapper(open_regular(path), "utf-8-sig", newline="") as file:
        start = file.readline()
        delimiter = max(",;\t", key=start.count)
        names_in_header: list[str] = next(csv.reader([start], delimiter=delimiter), [""])
        header = [name.strip().lower() for name in names_in_header]
        pictures = [i for i, name in enumerate(header) if name in _PICTURE_COLUMNS]
        if not pictures or not any(set(columns.split()) <= set(header) for columns in _BOX_COLUMNS):
            return None
        named = [i for i, name in enumerate(header) if name in _NAME_COLUMNS]
        shown, names = set[str](), set[str]()
        for row in csv.reader(file, delimiter=delimiter):
            shown.update(row[pictures[0] : pictures[0] + 1])
            names.update(row[named[0] : named[0] + 1] if named else ())
    return Found("a table of boxes", "csv", path, len(shown), frozenset(names - {""}) if named else None, NEGATIVES)


_READERS: Mapping[str, Callable[[Path], Found | None]] = {
    ".json": _read_json,
    ".xml": _read_xml,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".txt": _read_text,
    ".csv": _read_table,
    ".tsv": _read_table,
}
