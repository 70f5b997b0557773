"""Files in the layout of COCO's instances: {"images": […], "annotations": […], "categories": […]}."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_r1.data.converters.base import Tally, clean_text
from vlm_r1.data.converters.files import Id, place, read_json, shown, take, take_numbers
from vlm_r1.data.converters.pictures import from_xywh
from vlm_r1.errors import DataError
from vlm_r1.types import Box

_UNUSED = ("segmentation", "rle", "keypoints", "counts")
"""Keys that are most of such a file and that nobody here needs."""


@dataclass(frozen=True)
class CocoObject:
    """One annotation: the category's name, xyxy in pixels, and whether it stands for a crowd of objects."""

    label: str
    box: Box
    crowd: bool


@dataclass(frozen=True)
class CocoImage:
    """One image: its id, its size in the annotations, its objects in order, and all that the file says about it."""

    id: Id
    wh: tuple[int, int]
    objects: list[CocoObject]
    row: Mapping[str, Any]


@dataclass(frozen=True)
class CocoFile:
    """A file that was read.

    Attributes:
        path: where it lies.
        images: in the order of the file.
        names: category id → name, as people say it, in the order of the file.
        annotation_boxes: annotation id → (category name, box), for references into the file.
    """

    path: Path
    images: list[CocoImage]
    names: Mapping[Id, str]
    annotation_boxes: Mapping[Id, CocoObject]


def read_coco(path: Path, tally: Tally, say: Callable[[str], str] = clean_text) -> CocoFile:
    """Read a whole file; polygons are forgotten as they are read.

    Annotations of unknown images or categories are dropped and counted.

    Args:
        path: the file.
        tally: gets the annotations that are dropped.
        say: makes a category's name what people say, e.g. "fire_hydrant" → "fire hydrant".

    Raises:
        DataError: unreadable, or not in this layout: file and key path are named.
    """
    root = read_json(path, forget=_UNUSED)
    images: dict[Id, CocoImage] = {}
    for i, row in enumerate(take(root, "images", list, path)):
        where = (path, "images", i)
        wh = (take(row, "width", int, *where), take(row, "height", int, *where))
        image = CocoImage(id=take(row, "id", None, *where), wh=wh, objects=[], row=row)
        images[image.id] = image
    names = _names(root, path, say)
    boxes: dict[Id, CocoObject] = {}
    for i, row in enumerate(take(root, "annotations", list, path)):
        where = (path, "annotations", i)
        image = images.get(take(row, "image_id", None, *where))
        label = names.get(take(row, "category_id", None, *where))
        if image is None or label is None:
            tally.drop("box", f"of an unknown {'image' if image is None else 'category'}")
            continue
        box = from_xywh(take_numbers(row, "bbox", 4, *where))
        boxes[take(row, "id", None, *where)] = found = CocoObject(label, box, crowd=row.get("iscrowd") in (1, True))
        image.objects.append(found)
    return CocoFile(path, list(images.values()), names, boxes)


def _names(root: Any, path: Path, say: Callable[[str], str]) -> dict[Id, str]:
    """Category id → name.

    Roboflow puts a root above the real categories, which has no boxes: {"id": 0, "name": "fish",
    "supercategory": "none"} above {"id": 1, "name": "shark", "supercategory": "fish"}. It is left out.
    """
    rows = take(root, "categories", list, path)
    parents = {row.get("supercategory") for row in rows if isinstance(row, dict)}
    names: dict[Id, str] = {}
    for i, row in enumerate(rows):
        name = say(take(row, "name", str, path, "categories", i))
        if not name:
            raise DataError(f"{place(path, 'categories', i, 'name')}: got {shown(row['name'])}, wanted a name")
        if row.get("supercategory") == "none" and row["name"] in parents:
            continue
        names[take(row, "id", None, path, "categories", i)] = name
    return names
