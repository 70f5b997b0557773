"""Records of images in which every category is annotated, so that the absent ones are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from vlm_r1.converters.base import Job, Line
from vlm_r1.converters.coco_objects import CocoObject
from vlm_r1.converters.detection import (
    CategoryOptions,
    Contents,
    apply_limits,
    contents_of,
    detection_line,
    line_asking,
)
from vlm_r1.converters.pictures import Picture, Unusable, as_json

SEVERAL = "one of several of its category in the image"


def category_lines(
    job: Job,
    options: CategoryOptions,
    line: Line,
    *,
    objects: Sequence[CocoObject],
    picture: Picture,
    names: Sequence[str],
) -> Iterator[Line]:
    """Yield the records of one image; none (and counted) if nothing can be asked.

    Args:
        job: its tally counts what is left out.
        options: see their help.
        line: the id of the image, its path and extra keys.
        objects: all its objects.
        picture: its file.
        names: all categories.
    """
    contents = apply_limits(contents_of(objects, picture, job.tally), options, job.tally)
    if isinstance(contents, Unusable):
        job.tally.drop("image", contents.reason, example=picture.name)
    elif options.task == "rec":
        yield from _one_each(job, line, contents)
    elif made := _line(job, options, line, contents, names):
        yield made


def _one_each(job: Job, line: Line, contents: Contents) -> Iterator[Line]:
    """One record for each category with exactly one box: its name, and the box."""
    single = _only_single(contents, job, "task rec").present
    job.tally.drop("image", "without a category of exactly one box", not single, line.image)
    for label, (box,) in single.items():
        job.tally.kept["box"] += 1
        yield replace(line, id=f"{line.id}-{label}", question=label, answer=as_json(box))


def _line(job: Job, options: CategoryOptions, line: Line, contents: Contents, names: Sequence[str]) -> Line | None:
    if options.mode == "all":
        targets = [name for name in names if name not in contents.incomplete]
        return line_asking(line, targets, contents.present, job.tally)
    absent = [name for name in names if name not in contents.present and name not in contents.incomplete]
    asked = _only_single(contents, job, "mode one-box") if options.mode == "one-box" else contents
    return detection_line(line, asked, absent, options, job.tally)


def _only_single(contents: Contents, job: Job, asked_by: str) -> Contents:
    single = {label: boxes for label, boxes in contents.present.items() if len(boxes) == 1}
    n_others = sum(map(len, contents.present.values())) - len(single)
    job.tally.drop("box", f"{SEVERAL} ({asked_by})", n_others)
    return replace(contents, present=single)
