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
from vlm_r1.converters.files import location, read_json, shown, size_in, take
from vlm_r1.converters.ids import Id, check_alike, check_shift, read_id
from vlm_r1.converters.pictures import SIZE_READ, Unusable
from vlm_r1.errors import DataError
from vlm_r1.parsing.json_values import is_object

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
        name: path of its file as the annotations write it; empty: they give none.
        wh: its width and height in the annotations; None: they give none.
        objects: in the order of the file, without those of unknown categories.
        row: its object in the file.
        index: index of that object in the file's list.
        unusable: why its objects are not known completely; None: they are known.
    """

    id: Id
    name: str
    wh: tuple[int, int] | None
    objects: list[CocoObject]
    row: Mapping[str, Any]
    index: int
    unusable: Unusable | None = None


@dataclass(frozen=True)
class CocoFile:
    """A file that was read.

    Attributes:
        path: its path.
        images: the images in the order of the file; each id occurs once.
        names: category id → readable name, in the order of the file.
        annotation_boxes: annotation id → its object, for references into the file; None: several have that id.
        unmatched: number of the annotations that name no image of the file, and the first of them as an example.
        image_ids, category_ids: all ids that the annotations name, known or not.
    """

    path: Path
    images: list[CocoImage]
    names: Mapping[Id, str]
    annotation_boxes: Mapping[Id, CocoObject | None]
    unmatched: tuple[int, str]
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
    clean_name: Callable[[str], str] = clean_text,
    name_of: Callable[[Mapping[str, Any]], str] = file_name,
    shared_files: bool = False,
) -> CocoFile:
    """Read a whole file; polygons are dropped while reading, to save memory.

    Args:
        path: the file.
        tally: counts everything that is dropped.
        clean_name: makes a category's name readable, e.g. "fire_hydrant" → "fire hydrant".
        name_of: returns the path of an image from its row.
        shared_files: several images may have one file, each with its own names; without this they are unusable.

    Raises:
        DataError: unreadable, not in this layout, or an id of an image or category is ambiguous. The message names
            file and key path.
    """
    root = read_json(path, slim=slim)
    listed = take(root, "images", list, path)
    places = _by_id(listed, "image", path, tally, name_of)
    annotations = _Annotations.read(take(root, "annotations", list, path), places, path, tally)
    names = _names(take(root, "categories", list, path), annotations.category_ids, path, clean_name, tally)
    check_alike("image", {*places, *annotations.image_ids}, path)
    check_alike("category", {*names, *annotations.category_ids}, path)
    objects, reasons, boxes = annotations.by_image(names, tally)
    files = Counter(one_form(name_of(listed[i])) for i in places.values())
    images: list[CocoImage] = []
    for id_, i in places.items():
        name, unusable = name_of(listed[i]), reasons.get(id_)
        if files[one_form(name)] > 1 and not shared_files:
            unusable = Unusable(FILE_TWICE, name)
        if not name:
            unusable = Unusable(NO_NAME, f"{location(path, 'images', i)}: {shown(listed[i])}")
        images.append(CocoImage(id_, name, _size(listed[i], name, tally), objects.get(id_, []), listed[i], i, unusable))
    return CocoFile(path, images, names, boxes, annotations.unmatched, annotations.image_ids, annotations.category_ids)


def require_images(file: CocoFile, unknown_images: str) -> None:
    """Refuse a file whose ids cannot be trusted to name every object of an image.

    Args:
        file: the file that was read.
        unknown_images: "drop": boxes of images that the file does not list are no reason to refuse it.

    Raises:
        DataError: it has boxes of unknown images, or no boxes at all, or all its image ids or category ids are one
            too high or too low.
    """
    if not file.image_ids:
        raise DataError(f"{file.path}: no annotation names an image, so nobody knows what its images show")
    check_shift("image", {image.id for image in file.images}, file.image_ids, file.path)
    check_shift("category", file.names.keys(), file.category_ids, file.path)
    n, example = file.unmatched
    if n and unknown_images != "drop":
        example = example.removeprefix(f"{file.path}: ")
        raise DataError(
            f"{file.path}: {n} box{'es' * (n != 1)} of no image that the file lists, e.g. {example}, so any image may "
            "lack one. Correct the ids, or give --unknown-images drop if it lists only some of them on purpose"
        )


def name_key(name: str) -> str:
    """Return the key by which category names are compared: composed (NFC), without case, with single spaces.

    >>> name_key("Traffic  Light")
    'traffic light'
    """
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def one_form(name: str) -> str:
    """Return a path in one form, whether Windows or another system wrote it."""
    return posixpath.normpath(unicodedata.normalize("NFC", name.replace("\\", "/")))


def _by_id(
    rows: Sequence[Any], what: str, path: Path, tally: Tally, name_of: Callable[[Mapping[str, Any]], str]
) -> dict[Id, int]:
    """Map each id to the index of its row; rows without an id are dropped, and the first of equal rows is kept.

    Raises:
        DataError: rows with different names share an id.
    """
    found: dict[Id, int] = {}
    for i, row in enumerate(rows):
        id_ = read_id(row.get("id")) if is_object(row) else None
        if id_ is None:
            tally.drop(what, "without an id", example=f"{location(path, _PLURALS[what], i)}: {shown(row)}")
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
    wh = size_in(row.get("width"), row.get("height"))
    tally.note(SIZE_READ, wh is None, name)
    return wh


@dataclass(frozen=True)
class _Annotations:
    """The annotations of a file before their category ids are replaced by names.

    Attributes:
        path: the file.
        rows: index, image id, category id and row of each whose image is known, in the order of the file.
        image_ids, category_ids: all ids that they name.
        unmatched: see `CocoFile`.
    """

    path: Path
    rows: list[tuple[int, Id, Id | None, dict[str, Any]]]
    image_ids: frozenset[Id]
    category_ids: frozenset[Id]
    unmatched: tuple[int, str]

    @classmethod
    def read(cls, rows: Sequence[Any], images: Mapping[Id, Any], path: Path, tally: Tally) -> _Annotations:
        """Match the annotations with the images; those of unknown images are counted as dropped."""
        found: list[tuple[int, Id, Id | None, dict[str, Any]]] = []
        image_ids, category_ids, unmatched = set[Id](), set[Id](), list[int]()
        for i, row in enumerate(rows):
            if row is None or row == {}:
                tally.drop("annotation", "empty", example=location(path, "annotations", i))
                continue
            row = row if is_object(row) else {}
            image_id, category_id = read_id(row.get("image_id")), read_id(row.get("category_id"))
            image_ids |= set() if image_id is None else {image_id}
            category_ids |= set() if category_id is None else {category_id}
            if image_id is None or image_id not in images:
                unmatched.append(i)
            else:
                found.append((i, image_id, category_id, row))
        example = _unmatched_example(rows[unmatched[0]], path, unmatched[0]) if unmatched else ""
        tally.drop("box", UNKNOWN_IMAGE, len(unmatched), example)
        return cls(path, found, frozenset(image_ids), frozenset(category_ids), (len(unmatched), example))

    def by_image(
        self, names: Mapping[Id, str], tally: Tally
    ) -> tuple[dict[Id, list[CocoObject]], dict[Id, Unusable], dict[Id, CocoObject | None]]:
        """Sort the annotations by their image.

        Returns:
            Image id → objects of known categories; image id → why it is unusable, if it has a box of an unknown
            category; annotation id → object, as in `CocoFile`.
        """
        objects: dict[Id, list[CocoObject]] = {}
        unusable: dict[Id, Unusable] = {}
        boxes: dict[Id, CocoObject | None] = {}
        for i, image_id, category_id, row in self.rows:
            label = None if category_id is None else names.get(category_id)
            made = read_object(row, label or "", image_id)
            if "segmentation" in row and not isinstance(made.box, Unusable):  # kept where there is no box (`slim`)
                tally.note(OF_POLYGON, example=location(self.path, "annotations", i))
            if label is None:
                example = f"{location(self.path, 'annotations', i, 'category_id')}: {shown(row.get('category_id'))}"
                tally.drop("box", "of an unknown category", example=example)
                unusable[image_id] = Unusable(OF_UNKNOWN_CATEGORY, example)
            else:
                objects.setdefault(image_id, []).append(made)
            own = read_id(row.get("id"))
            if own is not None and boxes.setdefault(own, made) != made:
                boxes[own] = None
                tally.note(REUSED_IDS, example=location(self.path, "annotations", i, "id"))
        return objects, unusable, boxes


def _unmatched_example(row: Any, path: Path, i: int) -> str:
    value = shown(row.get("image_id")) if is_object(row) else shown(row)
    return f"{location(path, 'annotations', i, 'image_id')}: {value}"


def _names(
    rows: Sequence[Any], used: frozenset[Id], path: Path, clean_name: Callable[[str], str], tally: Tally
) -> dict[Id, str]:
    """Map category ids to names; names that differ only in case and spaces are all written as the first of them.

    Roboflow puts a root above the real categories, which has no boxes: {"id": 0, "name": "fish",
    "supercategory": "none"} above {"id": 1, "name": "shark", "supercategory": "fish"}. It is left out.
    """
    parents = {row["supercategory"] for row in rows if is_object(row) and _is_text(row.get("supercategory"))}
    found = _by_id(rows, "category", path, tally, lambda row: str(row.get("name")))
    names: dict[Id, str] = {}
    spelling: dict[str, str] = {}
    for id_, i in found.items():
        number = rows[i].get("name")
        written = str(number) if type(number) is int else take(rows[i], "name", str, path, "categories", i)
        name = clean_name(written)
        if not name:
            raise DataError(f"{location(path, 'categories', i, 'name')}: got {shown(written)}, wanted a name")
        if rows[i].get("supercategory") == "none" and written in parents and id_ not in used:
            continue
        names[id_] = spelling.setdefault(name_key(name), name)
        tally.note(ONE_NAME, names[id_] != name, f"{names[id_]}, {name}")
    return names


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
