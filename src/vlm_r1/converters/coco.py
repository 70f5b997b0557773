"""COCO instances → detection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from vlm_r1.converters.base import Conversion, Converter, Job, Line
from vlm_r1.converters.coco_layout import CocoFile, CocoImage, read_coco, require_images
from vlm_r1.converters.detection import (
    CocoOptions,
    Contents,
    apply_limits,
    contents_of,
    detection_line,
    line_asking,
    usable_picture,
    with_policy,
)
from vlm_r1.converters.pictures import Images, Unusable, find_images


def convert(job: Job, options: CocoOptions) -> Conversion:
    """Convert `annotations/instances_val2017.json` with its images in `val2017/`: one record for each image.

    Raises:
        DataError: the source has another layout, or its images were not found.
        ConfigError: an option would have no effect.
    """
    options = with_policy(options)
    file = read_coco(job.source, job.tally)
    require_images(file, options.unknown_images)
    folder = job.source.parent
    split = job.source.stem.removeprefix("instances_")
    beside = (folder, folder.parent)
    candidates = [*(base / split for base in beside), folder.parent / "images" / split]
    candidates += [*beside, *(base / "images" for base in beside)]
    images = find_images(job, candidates, file.file_names)
    return Conversion("ovd", images.root, _lines(job, options, file, images))


def _lines(job: Job, options: CocoOptions, file: CocoFile, images: Images) -> Iterator[Line]:
    names = list(dict.fromkeys(file.names.values()))
    for image in job.track(file.images):
        made = coco_line(job, options, f"{job.source.stem}-{image.id}", image, names, images)
        if made:
            yield made


def coco_line(
    job: Job,
    options: CocoOptions,
    id_: str,
    image: CocoImage,
    names: Sequence[str],
    images: Images,
) -> Line | None:
    """Make the record of one image in which every category is annotated; None (and counted) if it cannot be used."""
    picture = usable_picture(image, images, job.tally)
    if picture is None:
        return None
    line = Line(id_, picture.name, "", None, {"size": list(picture.wh)})
    contents = apply_limits(contents_of(image.objects, picture, job.tally), options, job.tally)
    if isinstance(contents, Unusable):
        job.tally.drop("image", contents.reason, example=picture.name)
        return None
    if options.mode == "all":
        targets = [name for name in names if name not in contents.incomplete]
        return line_asking(line, targets, contents.present, job.tally)
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
