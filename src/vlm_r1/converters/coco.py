"""COCO instances → detection."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from vlm_r1.converters.base import Conversion, Converter, Job, Line, option
from vlm_r1.converters.categories import category_lines
from vlm_r1.converters.coco_layout import CocoFile, CocoImage, read_coco, require_images
from vlm_r1.converters.detection import CocoOptions, usable_picture, with_policy
from vlm_r1.converters.folders import Folder
from vlm_r1.converters.labelled import split_name
from vlm_r1.converters.pictures import Images, find_images
from vlm_r1.errors import ConfigError, DataError


@dataclass(frozen=True)
class CocoFileOptions(CocoOptions):
    """Options of one file of COCO's."""

    split: str | None = option(None, "which file of a folder, by its name or its folder's: train, val, test")


def convert(job: Job, options: CocoFileOptions) -> Conversion:
    """Convert `annotations/instances_val2017.json` with its images in `val2017/`: one record for each image.

    A folder may be given instead, as COCO, Roboflow (`valid/_annotations.coco.json`), CVAT and others lay it out.

    Raises:
        DataError: the source has another layout, or its images were not found.
        ConfigError: an option would have no effect.
    """
    options = with_policy(options)
    job = replace(job, source=_file(job.source, options.split))
    file = read_coco(job.source, job.tally)
    require_images(file, options.unknown_images)
    folder = job.source.parent
    split = job.source.stem.removeprefix("instances_")
    beside = (folder, folder.parent)
    candidates = [*(base / split for base in beside), folder.parent / "images" / split]
    candidates += [*beside, *(base / "images" for base in beside)]
    candidates += [base / inner for base in beside for inner in (f"images/{split}", "images/default", "data")]
    images = find_images(job, candidates, file.file_names)
    return Conversion(options.task, images.root, _lines(job, options, file, images))


_KNOWN = (
    "_annotations.coco.json",
    "instances_*.json",
    "*coco*.json",
    "*annotations*.json",
    "result.json",
    "labels.json",
)
"""Names of the files that tools write in this layout, those that say most first."""


def _file(source: Path, split: str | None) -> Path:
    """The source, if it is a file; of a folder its file for the split, or its only file of the first known name."""
    if not source.is_dir():
        if split is not None:
            raise ConfigError(f"--split {split} has no effect: {source} is one file. Leave it out, or name its folder")
        return source
    folder = Folder.read(source)
    known = ([path for path in folder.files if PurePath(path).match(pattern)] for pattern in _KNOWN)
    found = next(filter(None, known), folder.ending_in(".json"))
    chosen = [path for path in found if split is None or split_name(split) in _splits_of(path)]
    if len(chosen) != 1:
        what = "no file *.json" if not found else f"{len(chosen)} files{f' for --split {split}' if split else ''}"
        listed = f" (of {', '.join(found[:8])})" if found else ""
        raise DataError(f"{source}: it has {what}{listed}. Choose one by --split, or name the file as the source")
    return source / chosen[0]


def _splits_of(path: str) -> list[str]:
    """The names in a path that may be its split, e.g. val of annotations/instances_val2017.json."""
    words = re.split(r"[^A-Za-z]+", "/".join(path.split("/")[-2:]))
    return [split_name(word) for word in words if word]


def _lines(job: Job, options: CocoOptions, file: CocoFile, images: Images) -> Iterator[Line]:
    names = list(dict.fromkeys(file.names.values()))
    for image in job.track(file.images):
        id_ = f"{job.source.stem}-{image.id}"
        yield from coco_lines(job, options, image, id_=id_, names=names, images=images)


def coco_lines(
    job: Job,
    options: CocoOptions,
    image: CocoImage,
    *,
    id_: str,
    names: Sequence[str],
    images: Images,
) -> Iterator[Line]:
    """Yield the records of one image in which every category is annotated; none (and counted) if it cannot be used."""
    picture = usable_picture(image, images, job.tally)
    if picture is None:
        return
    line = Line(id_, picture.name, "", None, {"size": list(picture.wh)})
    yield from category_lines(job, options, line, objects=image.objects, picture=picture, names=names)


COCO = Converter(
    name="coco",
    summary="COCO instances → detection",
    layout="annotations/instances_val2017.json and val2017/*.jpg, or a folder with such files",
    options=CocoFileOptions,
    convert=convert,
    example="coco/annotations/instances_val2017.json --policy coco_filtered",
)
