"""CVAT's "CVAT for images 1.1" XML → detection."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

from vlm_r1.converters.base import Conversion, Converter, Job, Tally
from vlm_r1.converters.coco_objects import CocoObject
from vlm_r1.converters.files import numbers_in, size_in
from vlm_r1.converters.labelled import Labelled, LabelledOptions, Labels, labelled_conversion, split_name
from vlm_r1.converters.pictures import Unusable
from vlm_r1.converters.shapes import NO_NUMBERS, around, box_of, ellipse, rotated
from vlm_r1.converters.xml_files import numbers_of, xml_children
from vlm_r1.errors import DataError
from vlm_r1.types import Box

NO_AREA = "a shape without an area (points, polyline)"
NOT_READ = "a shape that is not read (cuboid, skeleton)"
OF_SHAPE = "box made from a polygon, a mask, an ellipse or a turned box"
TRACK = 'of a video, which "CVAT for images 1.1" gives frame by frame: export that'
OCCLUDED = "box of an object that is partly covered"

_SHAPES = ("box", "polygon", "polyline", "points", "ellipse", "mask", "cuboid", "skeleton")


def convert(job: Job, options: LabelledOptions) -> Conversion:
    """Convert `annotations.xml`, with the pictures in `images/` beside it or in --images.

    Raises:
        DataError: the file is none of CVAT's, holds videos alone, or the pictures were not found.
    """
    path = annotation_file(job.source, ".xml", "annotations.xml")
    pictures: list[Labelled] = []
    names: list[str] = []
    n_tracks = 0
    for root, child in xml_children(path):
        if root != "annotations":
            raise DataError(f"{path}: the root element is <{root}>, wanted <annotations> of CVAT for images 1.1")
        if child.tag == "meta":
            names = [name for one in child.iter("label") if (name := (one.findtext("name") or "").strip())]
        n_tracks += child.tag == "track"
        if child.tag == "image":
            pictures.append(_labelled(job.tally, child))
    job.tally.drop("track", TRACK, n_tracks)
    if not pictures and n_tracks:
        raise DataError(f"{path}: it holds {n_tracks} tracks of a video and no images. Export CVAT for images 1.1")
    folders = [path.parent / "images", path.parent, path.parent.parent / "images", path.parent.parent]
    return labelled_conversion(job, options, Labels(pictures, folders, names))


def annotation_file(source: Path, ending: str, usual: str) -> Path:
    """The source, if it is a file; of a folder its file with the usual name, or its only one with the ending.

    Raises:
        DataError: there is none, or several.
    """
    if not source.is_dir():
        return source
    found = sorted(path for path in source.iterdir() if path.suffix.lower() == ending)
    found = [path for path in found if path.name == usual] or found
    if len(found) != 1:
        listed = ", ".join(path.name for path in found[:5]) or "none"
        raise DataError(f"{source}: wanted one file *{ending}, found {listed}. Name the file itself as the source")
    return found[0]


def _labelled(tally: Tally, image: Element) -> Labelled:
    name, subset = (image.get("name") or "").strip(), (image.get("subset") or "").strip()
    splits = () if subset.lower() in ("", "default") else (split_name(subset),)
    return Labelled(
        name,
        [_object(tally, shape, name) for shape in image if shape.tag in _SHAPES],
        wh=size_in(image.get("width"), image.get("height")),
        splits=splits,
        other_names=(f"{subset}/{name}",) if subset else (),
        unusable=None if name else Unusable("without a file name"),
    )


def _object(tally: Tally, shape: Element, picture: str) -> CocoObject:
    box, label = _box(shape), (shape.get("label") or "").strip()
    is_plain = shape.tag == "box" and not _angle(shape)
    tally.note(OF_SHAPE, not is_plain and not isinstance(box, Unusable), picture)
    tally.note(OCCLUDED, shape.get("occluded") == "1", f"{label} in {picture}")
    return CocoObject(label, box)


def _angle(shape: Element) -> float | None:
    """Degrees clockwise; None: it is no number."""
    numbers = numbers_in([shape.get("rotation", "0")], 1)
    return numbers[0] if numbers else None


def _box(shape: Element) -> Box | Unusable:
    if shape.tag in ("points", "polyline"):
        return Unusable(NO_AREA)
    if shape.tag in ("cuboid", "skeleton"):
        return Unusable(NOT_READ)
    if shape.tag == "polygon":
        return _around(shape.get("points") or "")
    names = {"box": ("xtl", "ytl", "xbr", "ybr"), "ellipse": ("cx", "cy", "rx", "ry")}
    numbers = numbers_of(shape, names.get(shape.tag, ("left", "top", "width", "height")), attributes=True)
    angle = _angle(shape)
    if numbers is None or angle is None:
        return Unusable(NO_NUMBERS)
    a, b, c, d = numbers
    if shape.tag == "ellipse":
        return ellipse((a, b), (c, d), angle)
    if shape.tag == "mask":
        return box_of([a, b, a + c, b + d])
    plain = box_of(numbers)
    return plain if isinstance(plain, Unusable) or not angle else rotated(plain, angle, ((a + c) / 2, (b + d) / 2))


def _around(text: str) -> Box | Unusable:
    """The box around "x,y;x,y;x,y"."""
    points = [numbers_in(pair.split(","), 2) for pair in text.split(";")]
    if None in points or len(points) < 3:
        return Unusable(NO_NUMBERS)
    return around((point[0], point[1]) for point in points if point)


CVAT = Converter(
    name="cvat",
    summary="CVAT for images 1.1 → detection",
    layout="annotations.xml (CVAT for images 1.1), and the pictures in images/",
    options=LabelledOptions,
    convert=convert,
    gives_sizes=False,
    example="annotations.xml --images images/",
)
