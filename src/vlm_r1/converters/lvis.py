"""LVIS v1 instances → detection, with negatives verified by people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vlm_r1.converters.base import Conversion, Converter, Job, Line, clean_text, option
from vlm_r1.converters.coco_layout import CocoFile, CocoImage, file_name, read_coco, require_images
from vlm_r1.converters.detection import DetectionOptions, apply_limits, contents_of, detection_line, usable_picture
from vlm_r1.converters.files import location, shown, take
from vlm_r1.converters.ids import read_id
from vlm_r1.converters.pictures import Images, Unusable, find_images
from vlm_r1.errors import DataError

UNKNOWN_NOT_EXHAUSTIVE = "an unknown category is not exhaustive in it"


@dataclass(frozen=True)
class LvisOptions(DetectionOptions):
    """Limits and negatives of the questions; only categories in `neg_category_ids` are known to be absent."""

    negatives: tuple[int, int] = option((1, 3), "how many verified absent names are added to each question")


def convert(job: Job, options: LvisOptions) -> Conversion:
    """Convert `lvis_v1_val.json` with COCO's images in `train2017/` and `val2017/`: one record for each image.

    Raises:
        DataError: the source has another layout, or its images were not found.
    """
    file = read_coco(job.source, job.tally, lambda name: clean_text(name.replace("_", " ")), _name)
    require_images(file, options.unknown_images)
    folder = job.source.parent
    candidates = [base / name for base in (folder, folder.parent) for name in ("", "images", "coco")]
    images = find_images(job, candidates, file.file_names)
    return Conversion("ovd", images.root, _lines(job, options, file, images))


def _name(row: Mapping[str, Any]) -> str:
    """Folder and file from the image's URL: version 1 mixes both folders of COCO and has no file names."""
    url = row.get("coco_url")
    return "/".join(url.split("/")[-2:]) if isinstance(url, str) and url else file_name(row)


def _lines(job: Job, options: LvisOptions, file: CocoFile, images: Images) -> Iterator[Line]:
    for image in job.track(file.images):
        try:
            made = _line(job, options, file, image, images)
        except DataError as error:  # of one image: its lists of categories
            made = Unusable("without lists of categories as LVIS has them", str(error))
        if isinstance(made, Unusable):
            job.tally.drop("image", made.reason, example=made.example)
        elif made:
            yield made


def _line(job: Job, options: LvisOptions, file: CocoFile, image: CocoImage, images: Images) -> Line | Unusable | None:
    picture = usable_picture(image, images, job.tally)
    if picture is None:
        return None
    not_exhaustive, unknown = _names(file, image, "not_exhaustive_category_ids")
    if unknown:
        return Unusable(UNKNOWN_NOT_EXHAUSTIVE, unknown)
    negative, unknown = _names(file, image, "neg_category_ids")
    job.tally.drop("name", "negative of an unknown category", bool(unknown), unknown)
    contents = apply_limits(contents_of(image.objects, picture, job.tally, not_exhaustive), options, job.tally)
    if isinstance(contents, Unusable):
        return contents
    absent = [n for n in negative if n not in contents.present and n not in contents.incomplete]
    line = Line(f"{job.source.stem}-{image.id}", picture.name, "", None, {"size": list(picture.wh)})
    return detection_line(line, contents, absent, options, job.tally)


def _names(file: CocoFile, image: CocoImage, key: str) -> tuple[list[str], str]:
    """The names of the categories listed under a key, each once, and the first unknown id as an example, or ""."""
    where = (file.path, "images", image.index)
    known: dict[str, None] = {}
    unknown = ""
    for value in take(image.row, key, list, *where):
        id_ = read_id(value)
        name = None if id_ is None else file.names.get(id_)
        if name is not None:
            known[name] = None
        elif not unknown:
            unknown = f"{location(*where, key)}: {shown(value)}"
    return list(known), unknown


LVIS = Converter(
    name="lvis",
    summary="LVIS v1 instances → detection with verified negatives",
    layout="lvis_v1_val.json and COCO's train2017/*.jpg, val2017/*.jpg",
    options=LvisOptions,
    convert=convert,
)
