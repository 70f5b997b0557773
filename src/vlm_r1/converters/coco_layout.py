"""Files in the layout of COCO's instances: {"images": […], "annotations": […], "categories": […]}.

Many tools write this layout, each in its own way, so nothing in it is trusted: ids are brought to one form and joined
with care (`ids.py`), one odd row never refuses the file, and what is dropped is counted with an example.
"""

from __future__ import annotations

import posixpath
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_r1.converters.base import Tally, clean_text
from vlm_r1.converters.coco_objects import CocoObject, read_object, slim
from vlm_r1.converters.files import place, read_json, shown, take, whole_in
from vlm_r1.converters.ids import Id, check_alike, check_shift, read_id
from vlm_r1.converters.pictures import SIZE_READ, Unusable
from vlm_r1.errors import DataError

UNKNOWN_IMAGE = "of an unknown image"
NO_NAME = "without a file name"
OF_UNKNOWN_CATEGORY = "it has a box of an unknown category, so what it shows is not known"
FILE_TWICE = "its file is listed under several ids, which share its boxes out"
OF_POLYGON = "box made from a polygon, since there was none"
REUSED_IDS = "annotation ids that several objects have"
ONE_NAME = "categories whose names differ in case and spaces only are one"


@dataclass(frozen=True)
class CocoImage:
    """One image.

    Attributes:
        id: in the form of `read_id`.
        name: path of its file as it is written; empty: there is none.
        wh: its size in the annotations; None: they give none.
        objects: in the order of the file, without those of unknown categories.
        row: all that the file says about it.
        place: where that stands in the file's list.
        doubt: why its objects are not known completely; None: they are.
    """

    id: Id
    name: str
    wh: tuple[int, int] | None
    objects: list[CocoObject]
    row: Mapping[str, Any]
    place: int
    doubt: Unusable | None = None


@dataclass(frozen=True)
class CocoFile:
    """A file that was read.

    Attributes:
        path: where it lies.
        images: in the order of the file; each id once.
        names: category id → name, as people say it, in the order of the file.
        annotation_boxes: annotation id → its object, for references into the file; None: several have that id.
        strays: of the annotations that name no image of the file: how many they are, and the first.
        image_ids, category_ids: all that the annotations name, known or not.
    """

    path: Path
    images: list[CocoImage]
    names: Mapping[Id, str]
    annotation_boxes: Mapping[Id, CocoObject | None]
    strays: tuple[int, str]
    image_ids: frozenset[Id]
    category_ids: frozenset[Id]

    @property
    def file_names(self) -> Iterator[str]:
        """The names of the images that have one."""
        return (image.name for image in self.images if image.name)


def file_name(row: Mapping[str, Any]) -> str:
    """The path under `file_name`; empty: there is none."""
    name = row.get("file_name")
    return name.strip() if isinstance(name, str) else ""


def read_coco(
    path: Path,
    tally: Tally,
    say: Callable[[str], str] = clean_text,
    name_of: Callable[[Mapping[str, Any]], str] = file_name,
    shared_files: bool = False,
) -> CocoFile:
    """Read a whole file; polygons are forgotten as they are read.

    Args:
        path: the file.
        tally: gets what is dropped.
        say: makes a category's name what people say, e.g. "fire_hydrant" → "fire hydrant".
        name_of: the path of an image, out of its row.
        shared_files: several images may have one file, each asked for names of its own; else their boxes are in doubt.

    Raises:
        DataError: unreadable, not in this layout, or ids of images or categories that mean several things: file and
            key path are named.
    """
    root = read_json(path, slim=slim)
    listed = take(root, "images", list, path)
    places = _by_id(listed, "image", path, tally, name_of)
    annotations = _Annotations.read(take(root, "annotations", list, path), places, path, tally)
    names = _names(take(root, "categories", list, path), annotations.category_ids, path, say, tally)
    check_alike("image", {*places, *annotations.image_ids}, path)
    check_alike("category", {*names, *annotations.category_ids}, path)
    objects, doubts, boxes = annotations.sorted_out(names, tally)
    files = Counter(one_form(name_of(listed[i])) for i in places.values())
    images = []
    for id_, i in places.items():
        name, doubt = name_of(listed[i]), doubts.get(id_)
        if files[one_form(name)] > 1 and not shared_files:
            doubt = Unusable(FILE_TWICE, name)
        if not name:
            doubt = Unusable(NO_NAME, f"{place(path, 'images', i)}: {shown(listed[i])}")
        images.append(CocoImage(id_, name, _size(listed[i], name, tally), objects.get(id_, []), listed[i], i, doubt))
    return CocoFile(path, images, names, boxes, annotations.strays, annotations.image_ids, annotations.category_ids)


def require_images(file: CocoFile, unknown_images: str) -> None:
    """Refuse a file whose ids cannot be trusted to tell all that an image shows.

    Args:
        file: what was read.
        unknown_images: "drop": boxes of images that the file does not list are no sign of that.

    Raises:
        DataError: it has such boxes, or none at all, or all its ids of images or of categories are one too high or
            too low.
    """
    if not file.image_ids:
        raise DataError(f"{file.path}: no annotation names an image, so nobody knows what its images show")
    check_shift("image", {image.id for image in file.images}, file.image_ids, file.path)
    check_shift("category", file.names.keys(), file.category_ids, file.path)
    n, example = file.strays
    if n and unknown_images != "drop":
        example = example.removeprefix(f"{file.path}: ")
        raise DataError(
            f"{file.path}: {n} box{'es' * (n != 1)} of no image that the file lists, e.g. {example}, so any image may "
            "lack one. Mend the ids, or give --unknown-images drop if it lists a part of its images on purpose"
        )


def name_key(name: str) -> str:
    """What names of categories are compared by: composed, without case, white space as single spaces.

    >>> name_key("Traffic  Light")
    'traffic light'
    """
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def one_form(name: str) -> str:
    """A path, the same whether Windows or another system wrote it."""
    return posixpath.normpath(unicodedata.normalize("NFC", name.replace("\\", "/")))


def _by_id(
    rows: Sequence[Any], what: str, path: Path, tally: Tally, name_of: Callable[[Mapping[str, Any]], str]
) -> dict[Id, int]:
    """Where the row of each id is; rows without an id are dropped, and of one that is listed twice the first is kept.

    Raises:
        DataError: rows with different names share an id.
    """
    found: dict[Id, int] = {}
    for i, row in enumerate(rows):
        id_ = read_id(row.get("id")) if isinstance(row, dict) else None
        if id_ is None:
            tally.drop(what, "without an id", example=f"{place(path, _PLURALS[what], i)}: {shown(row)}")
            continue
        first = found.setdefault(id_, i)
        if first == i:
            continue
        name, other = name_of(rows[first]), name_of(row)
        if name != other:
            raise DataError(
                f"{path}: two {_PLURALS[what]} with the id {id_}: {shown(name)} and {shown(other)}. Give each an id "
                "of its own, and its boxes too"
            )
        tally.drop(what, "listed twice, with the same id and name", example=f"{path}: {shown(name)}")
    return found


_PLURALS = {"image": "images", "category": "categories"}


def _size(row: Mapping[str, Any], name: str, tally: Tally) -> tuple[int, int] | None:
    width, height = whole_in(row.get("width")), whole_in(row.get("height"))
    if width and height and min(width, height) > 0:
        return (width, height)
    tally.note(SIZE_READ, example=name)
    return None


@dataclass(frozen=True)
class _Annotations:
    """The annotations of a file before their categories have names.

    Attributes:
        path: the file.
        rows: place, image id, category id and row of each whose image is known, in the order of the file.
        image_ids, category_ids: all that they name.
        strays: see `CocoFile`.
    """

    path: Path
    rows: list[tuple[int, Id, Id | None, dict[str, Any]]]
    image_ids: frozenset[Id]
    category_ids: frozenset[Id]
    strays: tuple[int, str]

    @classmethod
    def read(cls, rows: Sequence[Any], images: Mapping[Id, Any], path: Path, tally: Tally) -> _Annotations:
        """Join them with the images; those of unknown images are counted as dropped."""
        found, image_ids, category_ids, strays = [], set[Id](), set[Id](), []
        for i, row in enumerate(rows):
            if row is None or row == {}:
                tally.drop("annotation", "empty", example=place(path, "annotations", i))
                continue
            row = row if isinstance(row, dict) else {}
            image_id, category_id = read_id(row.get("image_id")), read_id(row.get("category_id"))
            image_ids |= set() if image_id is None else {image_id}
            category_ids |= set() if category_id is None else {category_id}
            if image_id is None or image_id not in images:
                strays.append(i)
            else:
                found.append((i, image_id, category_id, row))
        example = _stray(rows[strays[0]], path, strays[0]) if strays else ""
        tally.drop("box", UNKNOWN_IMAGE, len(strays), example)
        return cls(path, found, frozenset(image_ids), frozenset(category_ids), (len(strays), example))

    def sorted_out(
        self, names: Mapping[Id, str], tally: Tally
    ) -> tuple[dict[Id, list[CocoObject]], dict[Id, Unusable], dict[Id, CocoObject | None]]:
        """By image: the objects of known categories, and the doubt that one of no known category casts; all by id."""
        objects: dict[Id, list[CocoObject]] = {}
        doubts: dict[Id, Unusable] = {}
        boxes: dict[Id, CocoObject | None] = {}
        for i, image_id, category_id, row in self.rows:
            label = None if category_id is None else names.get(category_id)
            made = read_object(row, label or "", image_id)
            if "segmentation" in row and not isinstance(made.box, Unusable):  # kept where there is no box (`slim`)
                tally.note(OF_POLYGON, example=place(self.path, "annotations", i))
            if label is None:
                example = f"{place(self.path, 'annotations', i, 'category_id')}: {shown(row.get('category_id'))}"
                tally.drop("box", "of an unknown category", example=example)
                doubts[image_id] = Unusable(OF_UNKNOWN_CATEGORY, example)
            else:
                objects.setdefault(image_id, []).append(made)
            own = read_id(row.get("id"))
            if own is not None and boxes.setdefault(own, made) != made:
                boxes[own] = None
                tally.note(REUSED_IDS, example=place(self.path, "annotations", i, "id"))
        return objects, doubts, boxes


def _stray(row: Any, path: Path, i: int) -> str:
    value = shown(row.get("image_id")) if isinstance(row, dict) else shown(row)
    return f"{place(path, 'annotations', i, 'image_id')}: {value}"


def _names(
    rows: Sequence[Any], used: frozenset[Id], path: Path, say: Callable[[str], str], tally: Tally
) -> dict[Id, str]:
    """Category id → name; names that differ in case and spaces only are written as the first of them.

    Roboflow puts a root above the real categories, which has no boxes: {"id": 0, "name": "fish",
    "supercategory": "none"} above {"id": 1, "name": "shark", "supercategory": "fish"}. It is left out.
    """
    parents = {row["supercategory"] for row in rows if isinstance(row, dict) and _is_text(row.get("supercategory"))}
    found = _by_id(rows, "category", path, tally, lambda row: str(row.get("name")))
    names: dict[Id, str] = {}
    spelling: dict[str, str] = {}
    for id_, i in found.items():
        number = rows[i].get("name")
        written = str(number) if type(number) is int else take(rows[i], "name", str, path, "categories", i)
        name = say(written)
        if not name:
            raise DataError(f"{place(path, 'categories', i, 'name')}: got {shown(written)}, wanted a name")
        if rows[i].get("supercategory") == "none" and written in parents and id_ not in used:
            continue
        names[id_] = spelling.setdefault(name_key(name), name)
        tally.note(ONE_NAME, names[id_] != name, f"{names[id_]}, {name}")
    return names


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
