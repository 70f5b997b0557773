"""COCO instances → detection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from vlm_r1.data.converters.base import Conversion, Converter, Job, Line
from vlm_r1.data.converters.coco_layout import CocoFile, CocoImage, read_coco
from vlm_r1.data.converters.detection import (
    CocoOptions,
    Contents,
    asked,
    contents_of,
    detection_line,
    limited,
    with_policy,
)
from vlm_r1.data.converters.files import take
from vlm_r1.data.converters.pictures import Images, Unusable, find_root


def convert(job: Job, options: CocoOptions) -> Conversion:
    """`annotations/instances_val2017.json` with its images in `val2017/`: one record for each image.

    Raises:
        DataError: not this layout, or the images are nowhere.
        ConfigError: an option would have no effect.
    """
    options = with_policy(options)
    file = read_coco(job.source, job.tally)
    folder = job.source.parent
    split = job.source.stem.removeprefix("instances_")
    candidates = [folder / split, folder.parent / split, folder.parent / "images" / split, folder, folder.parent]
    root = find_root(job.images, candidates, _name(file, 0))
    images = Images(root, job.verify)
    return Conversion("ovd", root, _lines(job, options, file, images))


def _name(file: CocoFile, index: int) -> str:
    return take(file.images[index].row, "file_name", str, file.path, "images", index) if file.images else ""


def _lines(job: Job, options: CocoOptions, file: CocoFile, images: Images) -> Iterator[Line]:
    names = list(dict.fromkeys(file.names.values()))
    for index, image in enumerate(job.track(file.images)):
        line = Line(id=f"{job.source.stem}-{image.id}", image=_name(file, index), question="", answer=None)
        made = coco_line(job, options, line, image, names, images)
        if made:
            yield made


def coco_line(
    job: Job, options: CocoOptions, line: Line, image: CocoImage, names: Sequence[str], images: Images
) -> Line | None:
    """The record of one image of which every category is annotated; None (counted) if it cannot be used."""
    picture = images.look(line.image, image.wh, job.tally)
    if isinstance(picture, Unusable):
        job.tally.drop("image", picture.reason)
        return None
    line = replace(line, extra={"size": list(picture.wh)})
    contents = limited(contents_of(image.objects, picture, job.tally), options, job.tally)
    if isinstance(contents, Unusable):
        job.tally.drop("image", contents.reason)
        return None
    if options.mode == "all":
        targets = [name for name in names if name not in contents.incomplete]
        return asked(line, targets, contents.present, job.tally)
    absent = [name for name in names if name not in contents.present and name not in contents.incomplete]
    return detection_line(line, _for_mode(contents, options.mode, job), absent, options, job.tally)


def _for_mode(contents: Contents, mode: str, job: Job) -> Contents:
    if mode != "one-box":
        return contents
    single = {label: boxes for label, boxes in contents.present.items() if len(boxes) == 1}
    n_others = sum(map(len, contents.present.values())) - len(single)
    job.tally.drop("box", "one of several of its category in the image (mode one-box)", n_others)
    return replace(contents, present=single)


COCO = Converter(
    name="coco",
    summary="COCO instances → detection",
    layout="annotations/instances_val2017.json and val2017/*.jpg",
    options=CocoOptions,
    convert=convert,
)
