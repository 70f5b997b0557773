"""Folders of COCO files as Roboflow exports them, and as ODinW is published → detection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from vlm_r1.converters.base import Conversion, Converter, Job, Line, option
from vlm_r1.converters.coco import coco_lines
from vlm_r1.converters.coco_layout import read_coco, require_images
from vlm_r1.converters.detection import CocoOptions, with_policy
from vlm_r1.converters.pictures import find_images
from vlm_r1.errors import ConfigError, DataError

ANNOTATIONS = "_annotations.coco.json"
ANNOTATIONS_ODINW = "annotations_without_background.json"
"""A file that ODinW, as published with GLIP, has next to the export: the same without the root category."""


@dataclass(frozen=True)
class OdinwOptions(CocoOptions):
    """Limits and negatives of the questions; every data set asks for its own categories."""

    split: str = option("test", "train, valid or test")


def convert(job: Job, options: OdinwOptions) -> Conversion:
    """Convert every `<split>/_annotations.coco.json` below the source, with the images in its folder.

    Raises:
        DataError: there is no such file below the source, or one has another layout.
        ConfigError: an option would have no effect.
    """
    if job.images:
        raise ConfigError("--images has no effect: the images of this format are in the folder of their annotations")
    paths = [_annotations(folder) for folder in _folders(job.source, options.split)]
    if not paths:
        raise DataError(f"{job.source}: no {options.split}/{ANNOTATIONS} in this folder or below it. Other --split?")
    return Conversion(options.task, job.source, _lines(job, options, paths))


def _folders(source: Path, split: str) -> list[Path]:
    """Folders that are named like the split and hold annotations, in the order of their names."""
    found = {path.parent for name in (ANNOTATIONS, ANNOTATIONS_ODINW) for path in source.rglob(f"{split}/{name}")}
    return sorted(found)


def _annotations(folder: Path) -> Path:
    preferred = folder / ANNOTATIONS_ODINW
    return preferred if preferred.exists() else folder / ANNOTATIONS


def _lines(job: Job, options: OdinwOptions, paths: list[Path]) -> Iterator[Line]:
    limits = with_policy(options)
    for path in job.track(paths):
        yield from _lines_of_file(job, limits, path)


def _lines_of_file(job: Job, options: CocoOptions, path: Path) -> Iterator[Line]:
    """Yield the records of one data set; their image paths are relative to the source."""
    file = read_coco(path, job.tally)
    require_images(file, options.unknown_images)
    names = list(dict.fromkeys(file.names.values()))
    images = find_images(replace(job, images=path.parent), [], file.file_names)
    folder = path.parent.relative_to(job.source).as_posix()
    for image in file.images:
        for made in coco_lines(job, options, image, id_=f"{folder}-{image.id}", names=names, images=images):
            yield replace(made, image=f"{folder}/{made.image}")


ODINW = Converter(
    name="odinw",
    summary="folders of COCO files (ODinW, Roboflow) → detection",
    layout="<data set>/test/_annotations.coco.json with the images beside it",
    options=OdinwOptions,
    convert=convert,
)
