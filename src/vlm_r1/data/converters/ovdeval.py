"""OVDEval → detection, with the hard negatives that its authors wrote for each image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_r1.data.converters.base import Conversion, Converter, Job, Line, Tally, clean_text, option
from vlm_r1.data.converters.coco_layout import CocoFile, CocoImage, read_coco
from vlm_r1.data.converters.detection import asked, contents_of
from vlm_r1.data.converters.files import place, shown, take
from vlm_r1.data.converters.pictures import Images, Unusable, find_root
from vlm_r1.errors import DataError

UNBOXED = "named as positive by its image, without a box"


@dataclass(frozen=True)
class OvdevalOptions:
    """The authors' two modes of evaluation."""

    mode: str = option(
        "all", "all: the image's positive and hard negative names; positive: the positive ones", ("all", "positive")
    )


def convert(job: Job, options: OvdevalOptions) -> Conversion:
    """One of the subsets' JSON files, or a folder of them: one record for each image.

    Raises:
        DataError: not this layout, or the images are nowhere.
    """
    paths = sorted(job.source.glob("*.json")) if job.source.is_dir() else [job.source]
    if not paths:
        raise DataError(f"{job.source}: no JSON file in this folder")
    first = read_coco(paths[0], Tally())
    folder = paths[0].parent
    bases = [folder, folder.parent]
    names = ("", "images", paths[0].stem, f"images/{paths[0].stem}")
    root = find_root(job.images, [base / name for base in bases for name in names], _name(first, 0))
    return Conversion("ovd", root, _lines(job, options, paths, Images(root, job.verify)))


def _name(file: CocoFile, index: int) -> str:
    return take(file.images[index].row, "file_name", str, file.path, "images", index) if file.images else ""


def _lines(job: Job, options: OvdevalOptions, paths: Sequence[Path], images: Images) -> Iterator[Line]:
    for path in job.track(paths):
        file = read_coco(path, job.tally)
        for index, image in enumerate(file.images):
            line = Line(id=f"{path.stem}-{image.id}", image=_name(file, index), question="", answer=None)
            made = _line(job, options, line, image, images, (path, "images", index))
            if made:
                yield made


def _line(
    job: Job, options: OvdevalOptions, line: Line, image: CocoImage, images: Images, where: Sequence[object]
) -> Line | None:
    picture = images.look(line.image, image.wh, job.tally)
    if isinstance(picture, Unusable):
        job.tally.drop("image", picture.reason)
        return None
    contents = contents_of(image.objects, picture, job.tally)
    positive, negative = (_texts(image.row, key, where) for key in ("text", "neg_text"))
    unboxed = [name for name in positive if name not in contents.present and name not in contents.incomplete]
    job.tally.drop("name", UNBOXED, len(unboxed))
    there = {*contents.present, *contents.incomplete, *unboxed}
    hard = [name for name in negative if name not in there] if options.mode == "all" else []
    extra = {"size": list(picture.wh), "subset": where[0].stem if isinstance(where[0], Path) else ""}
    filled = Line(line.id, line.image, "", None, extra)
    return asked(filled, [*contents.present, *hard], contents.present, job.tally)


def _texts(row: Any, key: str, where: Sequence[object]) -> list[str]:
    """The names under that key, each once; a file without the key has none."""
    if key not in row:
        return []
    values = take(row, key, list, *where)
    for i, value in enumerate(values):
        if not isinstance(value, str):
            raise DataError(f"{place(*where, key, i)}: got {shown(value)}, wanted a name")
    return list(dict.fromkeys(text for text in map(clean_text, values) if text))


OVDEVAL = Converter(
    name="ovdeval",
    summary="OVDEval → detection with its own hard negatives",
    layout="<subset>.json (or a folder of them) and the images",
    options=OvdevalOptions,
    convert=convert,
)
