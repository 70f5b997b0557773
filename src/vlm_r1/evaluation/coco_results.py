"""Detections in COCO's files: a ground truth (`instances_*.json`) and results (`[{"image_id", "category_id", …}]`).

Files of any tool are read strictly. pycocotools skips what it does not know, so a mistake becomes a lower number there;
here it is an error with its place. Our own answers are written in the same form, so that other tools can confirm their
numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from vlm_r1.converters.files import location, numbers_in, read_json, shown
from vlm_r1.errors import DataError
from vlm_r1.evaluation.coco_matching import Detections, GroundTruth
from vlm_r1.evaluation.sample_answers import LARGEST_PX, Objects, gold_objects, read_objects
from vlm_r1.evaluation.samples import Sample
from vlm_r1.geometry.boxes import FloatArray
from vlm_r1.parsing.json_values import is_list, is_number, is_object
from vlm_r1.parsing.normal_form import normalize_label
from vlm_r1.runtime.atomic import replacing
from vlm_r1.runtime.text import json_text

Id = int | str
T = TypeVar("T")
Confidence = Literal["one", "order"]

_UNUSED = frozenset(("segmentation", "caption", "keypoints", "license", "coco_url", "flickr_url"))


class CocoTruth(NamedTuple):
    """A ground truth; images and categories are numbered in the order of their ids, as pycocotools sorts them.

    Attributes:
        images, categories: id in the file → number.
        truth: the gold boxes, with these numbers.
        notes: sentences about what the file lacks and what was taken instead.
    """

    images: Mapping[Id, int]
    categories: Mapping[Id, int]
    truth: GroundTruth
    notes: tuple[str, ...]


def read_truth(path: Path) -> CocoTruth:
    """Read a ground truth in COCO's format.

    Raises:
        DataError: it cannot be read, an id is missing, twice or unknown, a box is not four numbers with sides ≥ 0, or
            there is no annotation; names the place.
    """
    content: Any = read_json(path, slim=_slim)
    if not is_object(content):
        raise DataError(f"{path}: got {shown(content)}; wanted an object with images, annotations and categories")
    images, categories, ids = (_ids(content, key, path) for key in ("images", "categories", "annotations"))
    rows: list[dict[str, Any]] = content["annotations"]
    if not rows:
        raise DataError(f"{path}: annotations: got none; wanted at least one gold box")
    where = [(path, "annotations", i) for i in range(len(rows))]
    boxes_N4 = _corners([_box(row, *place) for row, place in zip(rows, where, strict=True)])
    areas = [_area(row, *place) for row, place in zip(rows, where, strict=True)]
    truth = GroundTruth(
        np.array([_known(row, "image_id", images, *place) for row, place in zip(rows, where, strict=True)]),
        np.array([_known(row, "category_id", categories, *place) for row, place in zip(rows, where, strict=True)]),
        boxes_N4,
        areas_N=np.array(areas, dtype=np.float64),
        crowd_N=np.array([_crowd(row, *place) for row, place in zip(rows, where, strict=True)], dtype=np.bool_),
    )
    without_area = sum("area" not in row for row in rows)
    notes = [f"{path}: {without_area:,} annotations have no area; width × height is taken"] if without_area else []
    if 0 in ids:
        notes.append(
            f"{path}: an annotation has the id 0. pycocotools counts its match as wrong; that is not done here"
        )
    return CocoTruth(images, categories, truth, tuple(notes))


def read_results(path: Path, truth: CocoTruth) -> tuple[Detections, tuple[str, ...]]:
    """Read results in COCO's format, of any tool; returns them and notes.

    Raises:
        DataError: it cannot be read, is empty, an id is unknown to the truth, a score is missing or not finite, or a
            box is not four numbers with sides ≥ 0; names the place.
    """
    rows: Any = read_json(path)
    if not is_list(rows):
        raise DataError(
            f'{path}: got {shown(rows)}; wanted a list of {{"image_id", "category_id", "bbox": [x, y, width, height], '
            '"score"}'
        )
    if not rows:
        raise DataError(f"{path}: got an empty list; wanted at least one detection. Of none, all numbers are 0")
    found: list[tuple[int, int, tuple[float, ...], float]] = []
    for i, row in enumerate(rows):
        place = (path, i)
        image, category = (
            _known(row, key, known, *place)
            for key, known in (("image_id", truth.images), ("category_id", truth.categories))
        )
        found.append((image, category, _box(row, *place), _score(row, *place)))
    repeated = len(found) - len(set(found))
    notes = (f"{path}: {repeated:,} detections are there more than once; each counts",) if repeated else ()
    images, categories, boxes, scores = zip(*found, strict=True)
    return Detections(np.array(images), np.array(categories), _corners(boxes), np.array(scores, dtype=float)), notes


def coco_files(samples: Iterable[Sample], confidence: Confidence) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the gold answers of detection samples as COCO's ground truth, and the answers as COCO's results.

    Each sample is an image of its own, since each asks for other labels; its id is its place, from 1. Labels are
    categories in their normal form, numbered in order from 1. Unreadable answers have no detections.

    Args:
        samples: of the task `ovd`.
        confidence: see `score_of`.

    Raises:
        DataError: a gold answer or an answer is no list of labelled boxes.
    """
    kept = list(samples)
    sides = [(gold_objects(sample), read_objects(sample)) for sample in kept]
    number = label_numbers(sides)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for image_id, (sample, (gold, found)) in enumerate(zip(kept, sides, strict=True), start=1):
        width, height = sample.image_sizes[0] if sample.image_sizes else (0, 0)
        name = sample.images[0] if sample.images else sample.record_id
        image = {"id": image_id, "file_name": name, "width": width, "height": height, "record_id": sample.record_id}
        images.append(image)
        for item in gold:
            bbox = _xywh(item.box)
            row = {"image_id": image_id, "category_id": number[normalize_label(item.label)], "bbox": bbox}
            annotations.append({"id": len(annotations) + 1, **row, "area": bbox[2] * bbox[3], "iscrowd": 0})
        for place, item in enumerate(found):
            row = {"image_id": image_id, "category_id": number[normalize_label(item.label)], "bbox": _xywh(item.box)}
            results.append({**row, "score": score_of(place, confidence)})
    categories = [{"id": id_, "name": label} for label, id_ in number.items()]
    return {"images": images, "annotations": annotations, "categories": categories}, results


def write_coco(result: Path, samples: Sequence[Sample], confidence: Confidence) -> Path | None:
    """Write the files of `coco_files` into the folder `NAME.coco` beside a result: truth.json and results.json.

    Returns:
        The folder; None, and nothing is written, unless all samples are of the task `ovd`, one for each record.

    Raises:
        CheckpointError: they cannot be written.
    """
    if any(sample.task != "ovd" or sample.draw for sample in samples):
        return None
    folder = result.with_suffix(".coco")
    for name, content in zip(("truth", "results"), coco_files(samples, confidence), strict=True):
        with replacing(folder / f"{name}.json") as temporary:
            temporary.write_text(json_text(content), encoding="utf-8")
    return folder


def label_numbers(sides: Iterable[tuple[Objects, Objects]]) -> dict[str, int]:
    """Number all labels of gold answers and answers, in order, from 1."""
    labels = {normalize_label(item.label) for both in sides for side in both for item in side}
    return {label: n for n, label in enumerate(sorted(labels), start=1)}


def score_of(place: int, confidence: Confidence) -> float:
    """Return the score of the box at that place of an answer, since a text has none.

    >>> score_of(0, "one"), score_of(3, "one"), score_of(0, "order"), score_of(3, "order")
    (1.0, 1.0, 1.0, 0.25)
    """
    return 1.0 if confidence == "one" else 1.0 / (1 + place)


# ---- reading -------------------------------------------------------------------------------------------------------


def _slim(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in _UNUSED}


def _ids(content: Mapping[str, Any], key: str, path: Path) -> dict[Id, int]:
    """Read the ids of a list of objects, and number them in order."""
    rows: Any = content.get(key)
    if not is_list(rows):
        raise DataError(f"{location(path, key)}: got {shown(rows)}; wanted a list, as in COCO's instances files")
    places: dict[Id, int] = {}
    for i, row in enumerate(rows):
        id_ = _id(row, "id", path, key, i)
        if id_ in places:
            first = location(path, key, places[id_])
            raise DataError(f"{location(path, key, i, 'id')}: {shown(id_)} is the id of {first} too; wanted another")
        places[id_] = i
    kinds = {type(id_) for id_ in places}
    if len(kinds) > 1:
        raise DataError(f"{location(path, key)}: some ids are numbers and some are texts; wanted one kind")
    return {id_: n for n, id_ in enumerate(sorted(places, key=lambda id_: id_))}  # pyright: ignore[reportArgumentType]


def _id(row: Any, key: str, *where: object) -> Id:
    value: Any = _take(row, key, *where)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise DataError(f"{location(*where, key)}: got {shown(value)}; wanted an id, an integer or a text")
    return value


def _known(row: Any, key: str, known: Mapping[Id, int], *where: object) -> int:
    id_ = _id(row, key, *where)
    if id_ not in known:
        other = {str(one): one for one in known}.get(str(id_))
        hint = f" {shown(other)} is known, which is of another type" if other is not None else ""
        what = key.removesuffix("_id")
        raise DataError(
            f"{location(*where, key)}: got {shown(id_)}; wanted the id of one of the {len(known):,} {what} entries of "
            f"the ground truth.{hint}"
        )
    return known[id_]


def _box(row: Any, *where: object) -> tuple[float, ...]:
    value: Any = _take(row, "bbox", *where)
    numbers = numbers_in(value, 4) if is_list(value) and all(map(is_number, value)) else None
    if numbers is None or numbers[2] < 0 or numbers[3] < 0 or max(map(abs, numbers)) > LARGEST_PX:
        raise DataError(
            f"{location(*where, 'bbox')}: got {shown(value)}; wanted [x, y, width, height], four numbers up to "
            f"{LARGEST_PX:.0e}, width and height not negative"
        )
    return tuple(numbers)


def _score(row: Any, *where: object) -> float:
    value: Any = _take(row, "score", *where)
    if not is_number(value):
        raise DataError(f"{location(*where, 'score')}: got {shown(value)}; wanted a finite number")
    return float(value)


def _area(row: Any, *where: object) -> float:
    value: Any = row.get("area", row["bbox"][2] * row["bbox"][3])
    if not is_number(value) or value < 0:
        raise DataError(f"{location(*where, 'area')}: got {shown(value)}; wanted square pixels, a number ≥ 0")
    return float(value)


def _crowd(row: Any, *where: object) -> bool:
    value: Any = row.get("iscrowd", 0)
    if value not in (0, 1):
        raise DataError(f"{location(*where, 'iscrowd')}: got {shown(value)}; wanted 0 or 1")
    return bool(value)


def _take(row: Any, key: str, *where: object) -> Any:
    if not is_object(row):
        raise DataError(f"{location(*where)}: got {shown(row)}; wanted an object with {key}")
    if key not in row:
        raise DataError(f"{location(*where, key)}: missing, got the keys {', '.join(map(str, row)) or '(none)':.200}")
    return row[key]


def _corners(boxes: Sequence[Sequence[float]]) -> FloatArray:
    xywh_N4 = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    return np.hstack([xywh_N4[:, :2], xywh_N4[:, :2] + xywh_N4[:, 2:]])


def _xywh(box: Sequence[float]) -> list[float]:
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]
