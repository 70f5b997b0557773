"""OVDEval → detection, with the hard negatives that its authors wrote for each image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from vlm_r1.converters.base import Conversion, Converter, Job, Line, Tally, clean_text, option
from vlm_r1.converters.coco_layout import CocoImage, name_key, one_form, read_coco, require_images
from vlm_r1.converters.detection import CompleteOptions, contents_of, line_asking, usable_picture
from vlm_r1.converters.files import location, shown, take
from vlm_r1.converters.pictures import Images, find_images
from vlm_r1.errors import DataError
from vlm_r1.types import AnswerValue

UNBOXED = "named as positive by its image, without a box"


@dataclass(frozen=True)
class OvdevalOptions(CompleteOptions):
    """The authors' two modes of evaluation."""

    mode: str = option(
        "all", "all: the image's positive and hard negative names; positive: the positive ones", ("all", "positive")
    )


def convert(job: Job, options: OvdevalOptions) -> Conversion:
    """Convert one of the subsets' JSON files, or a folder of them: one record for each image.

    In a folder, the images of each subset may lie in a folder of its name, as they are published.

    Raises:
        DataError: the source has another layout, or its images were not found.
    """
    paths = sorted(job.source.glob("*.json")) if job.source.is_dir() else [job.source]
    if not paths:
        raise DataError(f"{job.source}: no JSON file in this folder")
    first = read_coco(paths[0], Tally())
    folder = paths[0].parent
    bases = [folder, folder.parent]
    places = ("", "images", paths[0].stem, f"images/{paths[0].stem}")
    inside = (f"{paths[0].stem}/{name}" for name in first.file_names) if len(paths) > 1 else ()
    names = [*islice(inside, 10), *islice(first.file_names, 40)]
    images = find_images(job, [base / place for base in bases for place in places], names)
    return Conversion("ovd", images.root, _lines(job, options, paths, images))


def _placed(image: CocoImage, images: Images, path: Path) -> CocoImage:
    """Return the image with the folder of its subset before its name, if the images of several lie side by side."""
    inside = f"{path.stem}/{image.name}"
    return replace(image, name=inside) if image.name and images.find(inside) is not None else image


def _lines(job: Job, options: OvdevalOptions, paths: Sequence[Path], images: Images) -> Iterator[Line]:
    for path in job.track(paths):
        file = read_coco(path, job.tally, shared_files=True)
        require_images(file, options.unknown_images)
        labels: dict[str, Counter[str]] = {}  # image file → label → number of its entries with that label
        for image in file.images:
            labels.setdefault(one_form(image.name), Counter()).update({item.label for item in image.objects})
        for image in file.images:
            known = labels[one_form(image.name)]
            try:
                made = _line(job, options, _placed(image, images, path), images, path, known)
            except DataError as error:  # of one image: its lists of names
                job.tally.drop("image", "its lists of names cannot be read", example=str(error))
                continue
            if made:
                yield made


def _line(
    job: Job, options: OvdevalOptions, image: CocoImage, images: Images, path: Path, labels: Counter[str]
) -> Line | None:
    """Make the record of one image.

    Several entries may share one image file. A label of another entry is no negative, and a label that several entries
    have is not asked for.
    """
    picture = usable_picture(image, images, job.tally)
    if picture is None:
        return None
    where = (path, "images", image.index)
    positive, negative = (_texts(image.row, key, where) for key in ("text", "neg_text"))
    shared = [label for label, n in labels.items() if n > 1]
    contents = contents_of(image.objects, picture, job.tally, incomplete=shared)
    boxed = {name_key(name) for name in (*contents.present, *contents.incomplete)}
    unboxed = [name for name in positive if name_key(name) not in boxed]
    job.tally.drop("name", UNBOXED, len(unboxed), ", ".join(unboxed[:1]))
    there = boxed | {name_key(name) for name in (*unboxed, *labels)}
    hard = [name for name in negative if name_key(name) not in there] if options.mode == "all" else []
    extra: dict[str, AnswerValue] = {"size": list(picture.wh), "subset": path.stem}
    line = Line(f"{path.stem}-{image.id}", picture.name, "", None, extra)
    return line_asking(line, [*contents.present, *hard], contents.present, job.tally)


def _texts(row: Any, key: str, where: Sequence[object]) -> list[str]:
    """The names under that key, each once, in its first spelling; none if the key is missing."""
    if key not in row:
        return []
    values = take(row, key, list, *where)
    for i, value in enumerate(values):
        if not isinstance(value, str):
            raise DataError(f"{location(*where, key, i)}: got {shown(value)}, wanted a name")
    found: dict[str, str] = {}
    for text in map(clean_text, values):
        found.setdefault(name_key(text), text)
    return [text for text in found.values() if text]


OVDEVAL = Converter(
    name="ovdeval",
    summary="OVDEval → detection with its own hard negatives",
    layout="<subset>.json (or a folder of them) and the images",
    options=OvdevalOptions,
    convert=convert,
)
