"""Pascal VOC's folders, as LabelImg, CVAT and Roboflow write them → detection: one XML file for each picture."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

from vlm_r1.converters.base import Conversion, Converter, Job, option
from vlm_r1.converters.coco_objects import CocoObject
from vlm_r1.converters.files import read_plain, size_in
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
from vlm_r1.converters.pictures import SIZE_READ, Unusable
from vlm_r1.converters.shapes import NO_NUMBERS, around, box_of, rotated
from vlm_r1.converters.xml_files import numbers_of, read_xml, text_of
from vlm_r1.errors import DataError
from vlm_r1.types import Box

DIFFICULT = "marked as difficult"
TRUNCATED = "box of an object that its image or another object cuts off"
OF_POLYGON = "box made from a polygon or a turned box, since there was no other"
FROM_ZERO = "box with a coordinate 0, which pixels counted from 1 do not have (--first-pixel 0)"
NO_VOC = "is no Pascal VOC annotation"

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_TURNED = ("cx", "cy", "w", "h", "angle")


@dataclass(frozen=True)
class VocOptions(UnlabelledOptions):
    """How the boxes are to be understood."""

    first_pixel: str = option(
        "1",
        "number of the first pixel: 1, as Pascal VOC defines it, so a box from 1 to 10 is 10 pixels wide; 0: corners",
        ("1", "0"),
    )
    difficult: str = option(
        "keep",
        "objects marked as difficult; drop: they, and their category in that image, are not asked",
        ("keep", "drop"),
    )


def convert(job: Job, options: VocOptions) -> Conversion:
    """Convert every XML file below a folder.

    Splits are those of `ImageSets/Main/*.txt`, or folders called train, valid or test.

    Raises:
        DataError: there are no annotations, or the pictures were not found.
    """
    if not job.source.is_dir():
        raise DataError(f"{job.source}: no such folder. Wanted one with Annotations/*.xml and JPEGImages/*.jpg")
    folder = Folder.read(job.source)
    pictures = folder if job.images is None else Folder.read(job.images)
    sets = _image_sets(folder)
    files = annotation_files(job, folder.ending_in(".xml"), read_xml, _is_voc, NO_VOC)
    made = [_labelled(job, root, path, pictures, options) for path, root in files]
    photographs = [path for path in pictures.pictures if not path.startswith("Segmentation")]  # others are VOC's masks
    made = [_in_sets(one, sets) for one in [*made, *unlabelled(made, photographs, options)]]
    return labelled_conversion(job, options, Labels(made, [job.source]))


def _is_voc(root: Element) -> bool:
    return root.tag == "annotation"


def _labelled(job: Job, root: Element, path: str, pictures: Folder, options: VocOptions) -> Labelled:
    found = pictures.picture_of(path, text_of(root, "filename") or text_of(root, "path"))
    size = root.find("size")
    wh = None if size is None else size_in(text_of(size, "width"), text_of(size, "height"))
    name = path if isinstance(found, Unusable) else found
    job.tally.note(SIZE_READ, wh is None, name)
    return Labelled(
        name,
        [_object(job, one, name, options) for one in root.findall("object")],
        wh=wh,
        splits=split_of(name),
        unusable=found if isinstance(found, Unusable) else None,
    )


def _object(job: Job, element: Element, picture: str, options: VocOptions) -> CocoObject:
    label = text_of(element, "name")
    if options.difficult == "drop" and text_of(element, "difficult") == "1":
        return CocoObject(label, Unusable(DIFFICULT))
    for flag in ("difficult", "truncated", "occluded"):
        note = f"box {DIFFICULT}, kept" if flag == "difficult" else TRUNCATED
        job.tally.note(note, text_of(element, flag) == "1", f"{label} in {picture}")
    return CocoObject(label, _box(job, element, picture, int(options.first_pixel)))


def _box(job: Job, element: Element, picture: str, first: int) -> Box | Unusable:
    """The box of an object: `bndbox`, or roLabelImg's `robndbox` (radians, clockwise), or around its `polygon`."""
    box, turned, polygon = (element.find(tag) for tag in ("bndbox", "robndbox", "polygon"))
    if box is not None:
        corners = box_of(numbers_of(box, _CORNERS))
        if isinstance(corners, Unusable):
            return corners
        x1, y1, x2, y2 = corners
        job.tally.note(FROM_ZERO, min(x1, y1) < first, picture)
        return (x1 - first, y1 - first, x2, y2)  # the last pixel is part of the box, so its far edge is its number
    job.tally.note(OF_POLYGON, turned is not None or polygon is not None, picture)
    if turned is not None:
        numbers = numbers_of(turned, _TURNED)
        if numbers is None:
            return Unusable(NO_NUMBERS)
        cx, cy, w, h, angle = numbers
        return rotated((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), math.degrees(angle), (cx, cy))
    if polygon is None:
        return Unusable(NO_NUMBERS)
    n = len(polygon) // 2
    numbers = numbers_of(polygon, tuple(f"{axis}{i}" for i in range(1, n + 1) for axis in "xy")) if n >= 3 else None
    if numbers is None:
        return Unusable(NO_NUMBERS)
    return around((x - first, y - first) for x, y in zip(numbers[::2], numbers[1::2], strict=True))


def _image_sets(folder: Folder) -> Mapping[str, tuple[str, ...]]:
    """Name of a picture without ending → the splits that list it. Lists with a second column are of one category."""
    found: dict[str, tuple[str, ...]] = defaultdict(tuple)
    for path in folder.ending_in(".txt"):
        parts = path.split("/")
        if parts[-3:-1] != ["ImageSets", "Main"]:
            continue
        rows = [line.split("\t") if "\t" in line else [line] for line in read_plain(folder.root / path).splitlines()]
        names = [row[0].strip() for row in rows if row[0].strip()]
        if any(len(name.split()) == 2 and name.split()[1] in ("-1", "0", "1") for name in names):
            continue
        for name in dict.fromkeys(names):
            found[name] += (Path(parts[-1]).stem,)
    return found


def _in_sets(one: Labelled, sets: Mapping[str, tuple[str, ...]]) -> Labelled:
    """The picture in the splits that list it; without lists, in that of its folder."""
    if not sets:
        return one
    stem = Path(one.name).stem
    return Labelled(one.name, one.objects, one.wh, sets.get(stem, ()), unusable=one.unusable)


VOC = Converter(
    name="voc",
    summary="Pascal VOC's XML files → detection",
    layout="Annotations/*.xml and JPEGImages/*.jpg, or XML files beside their pictures",
    options=VocOptions,
    convert=convert,
    gives_sizes=False,
    example="VOC2007/ --split trainval --difficult drop",
)
