"""LVIS v1 instances → detection, with negatives that people have verified."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vlm_r1.data.converters.base import Conversion, Converter, Job, Line, clean_text, option
from vlm_r1.data.converters.coco_layout import CocoFile, read_coco
from vlm_r1.data.converters.detection import DetectionOptions, contents_of, detection_line, limited
from vlm_r1.data.converters.files import take
from vlm_r1.data.converters.pictures import Images, Unusable, find_root


@dataclass(frozen=True)
class LvisOptions(DetectionOptions):
    """What is asked of an image; of its absent categories only those in `neg_category_ids` are known."""

    negatives: tuple[int, int] = option((1, 3), "how many verified absent names are added to each question")


def convert(job: Job, options: LvisOptions) -> Conversion:
    """`lvis_v1_val.json` with COCO's images in `train2017/` and `val2017/`: one record for each image.

    Raises:
        DataError: not this layout, or the images are nowhere.
    """
    file = read_coco(job.source, job.tally, say=lambda name: clean_text(name.replace("_", " ")))
    folder = job.source.parent
    candidates = [base / name for base in (folder, folder.parent) for name in ("", "images", "coco")]
    root = find_root(job.images, candidates, _name(file, 0) if file.images else "")
    return Conversion("ovd", root, _lines(job, options, file, Images(root, job.verify)))


def _name(file: CocoFile, index: int) -> str:
    """Folder and file out of the image's address: version 1 mixes both folders of COCO and has no file names."""
    url = take(file.images[index].row, "coco_url", str, file.path, "images", index)
    return "/".join(url.split("/")[-2:])


def _lines(job: Job, options: LvisOptions, file: CocoFile, images: Images) -> Iterator[Line]:
    for index, image in enumerate(job.track(file.images)):
        name = _name(file, index)
        picture = images.look(name, image.wh, job.tally)
        if isinstance(picture, Unusable):
            job.tally.drop("image", picture.reason)
            continue
        where = (file.path, "images", index)
        not_exhaustive, negative = (
            [file.names[id_] for id_ in take(image.row, key, list, *where) if id_ in file.names]
            for key in ("not_exhaustive_category_ids", "neg_category_ids")
        )
        contents = limited(contents_of(image.objects, picture, job.tally, not_exhaustive), options, job.tally)
        if isinstance(contents, Unusable):
            job.tally.drop("image", contents.reason)
            continue
        absent = [n for n in negative if n not in contents.present and n not in contents.incomplete]
        line = Line(f"{job.source.stem}-{image.id}", name, "", None, {"size": list(picture.wh)})
        made = detection_line(line, contents, absent, options, job.tally)
        if made:
            yield made


LVIS = Converter(
    name="lvis",
    summary="LVIS v1 instances → detection with verified negatives",
    layout="lvis_v1_val.json and COCO's train2017/*.jpg, val2017/*.jpg",
    options=LvisOptions,
    convert=convert,
)
