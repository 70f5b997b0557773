"""Description Detection Dataset (D-cube, D³) → detection: what is asked for are descriptions, some of them absent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_r1.data.converters.base import Conversion, Converter, Job, Line, Tally, clean_text, option
from vlm_r1.data.converters.coco_layout import CocoObject, read_coco
from vlm_r1.data.converters.detection import DetectionOptions, contents_of, detection_line, limited
from vlm_r1.data.converters.files import Id, place, shown, take, take_numbers
from vlm_r1.data.converters.pickles import read_pickle
from vlm_r1.data.converters.pictures import Images, Unusable, find_root, from_xywh
from vlm_r1.errors import DataError

UNVERIFIED = (
    "negatives not verified: the JSON files hold each image's boxes of its own group alone; the pickles hold all"
)


@dataclass(frozen=True)
class D3Options(DetectionOptions):
    """What is asked of an image: its group's descriptions that are there, and some that are not."""

    negatives: tuple[int, int] = option((1, 3), "how many absent descriptions are added to each question (paper: 1:3)")


@dataclass(frozen=True)
class _Image:
    """One image of either layout.

    Attributes:
        id, name, wh: as annotated.
        objects: boxes of the descriptions of the image's group.
        group: all descriptions of its group; empty where the file does not say.
        elsewhere: descriptions of other groups that are there too, so no negatives.
    """

    id: Id
    name: str
    wh: tuple[int, int]
    objects: list[CocoObject]
    group: list[str]
    elsewhere: frozenset[str]


def convert(job: Job, options: D3Options) -> Conversion:
    """The folder of the four pickles, or one of the JSON files: one record for each image.

    Raises:
        DataError: not this layout, or the images are nowhere.
    """
    if job.source.is_dir():
        names, images = _read_pickles(job.source)
    else:
        names, images = _read_json(job.source, job.tally)
        if options.negatives != (0, 0):
            job.tally.notes[UNVERIFIED] += len(images)
    folder = job.source if job.source.is_dir() else job.source.parent
    candidates = [base / name for base in (folder, folder.parent) for name in ("d3_images", "images", "")]
    root = find_root(job.images, candidates, images[0].name if images else "")
    return Conversion("ovd", root, _lines(job, options, names, images, Images(root, job.verify)))


def _read_json(path: Path, tally: Tally) -> tuple[list[str], list[_Image]]:
    """`d3_full_annotations.json` (or pres, abs): a COCO file whose categories are the descriptions."""
    file = read_coco(path, tally)
    images = [
        _Image(image.id, take(image.row, "file_name", str, path, "images", i), image.wh, image.objects, [], frozenset())
        for i, image in enumerate(file.images)
    ]
    return list(dict.fromkeys(file.names.values())), images


def _read_pickles(folder: Path) -> tuple[list[str], list[_Image]]:
    """`sentences.pkl`, `annotations.pkl`, `images.pkl` and `groups.pkl`: dictionaries by id."""
    paths = {name: folder / f"{name}.pkl" for name in ("sentences", "annotations", "images", "groups")}
    tables = {name: _table(path) for name, path in paths.items()}
    said = {
        id_: clean_text(take(row, "raw_sent", str, paths["sentences"], id_)) for id_, row in tables["sentences"].items()
    }
    images = []
    for id_, row in tables["images"].items():
        where = (paths["images"], id_)
        group_id = take(row, "group_id", None, *where)
        group_row = tables["groups"].get(group_id)
        group = {said[s] for s in take(group_row, "inner_sent_id", list, paths["groups"], group_id) if s in said}
        objects, seen = _objects(take(row, "anno_id", list, *where), tables["annotations"], said, paths["annotations"])
        wh = (take(row, "width", int, *where), take(row, "height", int, *where))
        inside = [item for item in objects if item.label in group]
        name = take(row, "file_name", str, *where)
        images.append(_Image(id_, name, wh, inside, sorted(group), frozenset(seen - group)))
    return list(dict.fromkeys(said.values())), images


def _table(path: Path) -> dict[Any, Any]:
    table = read_pickle(path)
    if not isinstance(table, dict):
        raise DataError(f"{path}: got {shown(table)}, wanted a dictionary by id")
    return table


def _objects(
    annotation_ids: list[Any], annotations: dict[Any, Any], said: dict[Any, str], path: Path
) -> tuple[list[CocoObject], set[str]]:
    """One object for each description of each annotation, and the descriptions met."""
    objects = []
    for id_ in annotation_ids:
        row = annotations.get(id_)
        box = from_xywh(_numbers(row, path, id_))
        labels = [said[s] for s in take(row, "sent_id", list, path, id_) if s in said]
        objects += [CocoObject(label, box, crowd=False) for label in labels]
    return objects, {item.label for item in objects}


def _numbers(row: Any, path: Path, id_: object) -> list[float]:
    """The box of an annotation: four numbers, or as published an array of one such row."""
    values = take(row, "bbox", list, path, id_)
    if values and isinstance(values[0], list):
        values = values[0]
    try:
        return take_numbers({"bbox": values}, "bbox", 4, path, id_)
    except DataError as error:
        raise DataError(f"{place(path, id_, 'bbox')}: got {shown(values)}, wanted x, y, width, height") from error


def _lines(job: Job, options: D3Options, names: list[str], found: list[_Image], images: Images) -> Iterator[Line]:
    for image in job.track(found):
        picture = images.look(image.name, image.wh, job.tally)
        if isinstance(picture, Unusable):
            job.tally.drop("image", picture.reason)
            continue
        contents = limited(contents_of(image.objects, picture, job.tally), options, job.tally)
        if isinstance(contents, Unusable):
            job.tally.drop("image", contents.reason)
            continue
        there = {*contents.present, *contents.incomplete, *image.elsewhere}
        near = [name for name in image.group if name not in there]
        far = [name for name in names if name not in there and name not in image.group]
        line = Line(f"d3-{image.id}", image.name, "", None, {"size": list(picture.wh)})
        made = detection_line(line, contents, far, options, job.tally, harder=near)
        if made:
            yield made


D3 = Converter(
    name="d3",
    summary="D-cube (D³) → detection of descriptions with absent ones added",
    layout="d3_pkl/{sentences,annotations,images,groups}.pkl or d3_json/d3_full_annotations.json, d3_images/",
    options=D3Options,
    convert=convert,
)
