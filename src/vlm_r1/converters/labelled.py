"""What all labelling tools have in common: pictures with all their objects, some of them in splits → detection."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from vlm_r1.converters.base import Conversion, Job, Line, clean_text, option
from vlm_r1.converters.categories import category_lines
from vlm_r1.converters.coco_layout import FILE_TWICE, OF_UNKNOWN_CATEGORY, ONE_NAME, name_key, one_form
from vlm_r1.converters.coco_objects import CocoObject
from vlm_r1.converters.detection import CategoryOptions, usable_picture
from vlm_r1.converters.pictures import Images, Picture, Unusable, find_images
from vlm_r1.errors import DataError

T = TypeVar("T")

REMOTE = "image kept as a URL"
NO_SIZE = "image at a URL without a size in the annotations"
OTHER_SPLIT = "of another split"
UNLABELLED = "without a label file, so what it shows is not known (--unlabelled empty: nothing)"

_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "validate", "dev"),
    "test": ("test", "testing"),
}
_SPLIT_NAMES: Mapping[str, str] = {name: split for split, names in _SPLITS.items() for name in names}
_NONE, _ALL = "(none)", "all"


@dataclass(frozen=True)
class LabelledOptions(CategoryOptions):
    """Options of all tools."""

    split: str | None = option(None, "train, val, test or another split of the source, or all of them")
    orientation: str = option(
        "upright", "stored: boxes lie on the pictures as they are without their EXIF rotation", ("upright", "stored")
    )


@dataclass(frozen=True)
class UnlabelledOptions(LabelledOptions):
    """Options of formats with one label file for each picture."""

    unlabelled: str = option(
        "drop", "pictures without a label file; empty: they show none of the categories", ("drop", "empty")
    )


@dataclass(frozen=True)
class Labelled:
    """One picture as a tool describes it.

    Attributes:
        name: path of its file as the tool writes it, or a URL.
        objects: all its objects. The label of one whose category is not known is empty.
        wh: its width and height in the annotations; None: they give none.
        splits: the splits that it is in.
        fractions: whether the boxes are fractions of width and height, not pixels.
        other_names: further paths at which its file may be.
        unusable: why it cannot be used; None: it can.
    """

    name: str
    objects: Sequence[CocoObject]
    wh: tuple[int, int] | None = None
    splits: tuple[str, ...] = ()
    fractions: bool = False
    other_names: tuple[str, ...] = ()
    unusable: Unusable | None = None


@dataclass(frozen=True)
class Labels:
    """All that a tool says.

    Attributes:
        pictures: all pictures, of all splits.
        folders: where the pictures may be.
        names: the categories that it lists, in its order; those of the objects are added.
    """

    pictures: Sequence[Labelled]
    folders: Sequence[Path]
    names: Sequence[str] = field(default_factory=tuple[str, ...])


def labelled_conversion(job: Job, options: LabelledOptions, labels: Labels) -> Conversion:
    """Make the records of the chosen split; headers of all its pictures are read, so that wrong sizes are found.

    Raises:
        DataError: the split is not there or not chosen, or the pictures were not found.
    """
    chosen = of_split(labels.pictures, [one.splits for one in labels.pictures], options.split, job)
    spelled = _spellings(labels, job)
    images = _images(job, labels.folders, [one for one in chosen if not one.unusable])
    images = replace(images, stored=options.orientation == "stored")
    return Conversion(options.task, images.root, _lines(job, options, _placed(chosen, images), images, spelled=spelled))


def _images(job: Job, folders: Sequence[Path], pictures: Sequence[Labelled]) -> Images:
    """The folder of the pictures; if all have URLs, and none lies in a folder, the first folder."""
    names = [name for one in pictures for name in (one.name, *one.other_names) if "://" not in name]
    job = replace(job, verify=True)
    if all("://" in one.name for one in pictures):
        roots = [Images(root) for root in ([job.images] if job.images else folders)]
        names = [name for name in names if any(images.find(name) for images in roots)]
    return find_images(job, folders, names)


def annotation_files(
    job: Job, paths: Sequence[str], read: Callable[[Path], T], is_ours: Callable[[T], bool], other: str
) -> Iterator[tuple[str, T]]:
    """Read files that each describe one picture; those that cannot be read, or are something else, are counted.

    Args:
        paths: relative to the source.
        read: raises DataError.
        is_ours: whether what was read is an annotation of this tool.
        other: the reason for which the others are dropped.

    Yields:
        The path and what was read.
    """
    for path in job.track(paths):
        try:
            found = read(job.source / path)
        except DataError as error:
            job.tally.drop("annotation file", "cannot be read", example=str(error))
            continue
        if is_ours(found):
            yield path, found
        else:
            job.tally.drop("annotation file", other, example=path)


def unlabelled(made: Sequence[Labelled], pictures: Sequence[str], options: UnlabelledOptions) -> list[Labelled]:
    """Return the pictures that no annotation file describes; none if there is no annotation file at all."""
    described = {one.name for one in made}
    others = [path for path in pictures if path not in described] if made else []
    drops = options.unlabelled == "drop"
    return [
        Labelled(path, [], splits=split_of(path), unusable=Unusable(UNLABELLED, path) if drops else None)
        for path in others
    ]


def of_split(items: Sequence[T], splits: Sequence[tuple[str, ...]], wanted: str | None, job: Job) -> list[T]:
    """The items of the wanted split, or all if there is only one.

    Args:
        items: the pictures.
        splits: the names of the splits that each is in.
        wanted: a name, "all", or None.
        job: its tally counts what is in other splits alone.

    Raises:
        DataError: no picture is in it, or there are several and none was chosen.
    """
    counts = Counter(name for names in splits for name in names or (_NONE,))
    listed = ", ".join(f"{name} ({n:,} picture{'s' * (n != 1)})" for name, n in counts.items())
    if not items:
        raise DataError(f"{job.source}: no pictures with labels were found in it. Wanted another folder or format?")
    if wanted is None and len(counts) > 1:
        raise DataError(f"{job.source}: it has the splits {listed}. Choose one by --split, or take --split all")
    if wanted is None or wanted == _ALL:
        return list(items)
    name = split_name(wanted)
    found = [item for item, names in zip(items, splits, strict=True) if name in names]
    if not found:
        raise DataError(f"{job.source}: no picture is in the split {wanted!r} (--split). It has {listed}")
    others = [split for split in counts if split != name]
    job.tally.drop("image", OTHER_SPLIT, len(items) - len(found), ", ".join(others))
    return found


def split_name(text: str) -> str:
    """One name for each split, e.g. val for valid and Validation; other names are kept in small letters.

    >>> split_name("valid"), split_name("Train"), split_name("fold1")
    ('val', 'train', 'fold1')
    """
    text = text.strip().lower()
    return _SPLIT_NAMES.get(text, text)


def split_of(path: str) -> tuple[str, ...]:
    """The split that a path is in, by the first of its folders that is named like one.

    >>> split_of("images/valid/a.jpg"), split_of("boats/a.jpg")
    (('val',), ())
    """
    folders = posixpath.dirname(path.replace("\\", "/")).split("/")
    return tuple(_SPLIT_NAMES[name] for name in map(str.lower, folders) if name in _SPLIT_NAMES)[:1]


def _spellings(labels: Labels, job: Job) -> dict[str, str]:
    """Each category as written → its name; those that differ in case and spaces only are one."""
    written = dict.fromkeys(labels.names) | dict.fromkeys(
        item.label for one in labels.pictures for item in one.objects if item.label
    )
    first: dict[str, str] = {}
    names: dict[str, str] = {}
    for label in written:
        name = clean_text(label)
        if not name:
            continue
        names[label] = first.setdefault(name_key(name), name)
        job.tally.note(ONE_NAME, names[label] != name, f"{names[label]}, {name}")
    return names


def _placed(pictures: Sequence[Labelled], images: Images) -> list[Labelled]:
    """The pictures under the names of their files; two of one file are unusable, since each has some of the boxes."""
    placed: list[Labelled] = []
    for one in pictures:
        found = next(filter(None, (images.find(name) for name in (one.name, *one.other_names))), None)
        placed.append(one if found is None else replace(one, name=posixpath.normpath(found)))
    counts = Counter(one_form(one.name) for one in placed if one.name)
    return [
        replace(one, unusable=Unusable(FILE_TWICE, one.name)) if counts[one_form(one.name)] > 1 else one
        for one in placed
    ]


def _lines(
    job: Job, options: LabelledOptions, pictures: Sequence[Labelled], images: Images, *, spelled: Mapping[str, str]
) -> Iterator[Line]:
    names = list(dict.fromkeys(spelled.values()))
    for one in job.track(pictures):
        unknown = next((item for item in one.objects if item.label not in spelled), None)
        if unknown is not None and one.unusable is None:
            reason = unknown.box.reason if isinstance(unknown.box, Unusable) else "a box without a category"
            one = replace(one, unusable=Unusable(OF_UNKNOWN_CATEGORY, f"{one.name}: {reason}"))
        picture = _picture(job, one, images)
        if picture is None:
            continue
        line = Line(picture.name, picture.name, "", None, {"size": list(picture.wh)})
        if options.split == _ALL and one.splits:
            line = replace(line, extra={**line.extra, "split": one.splits[0]})
        objects = [_in_pixels(item, spelled[item.label], one, picture) for item in one.objects]
        yield from category_lines(job, options, line, objects=objects, picture=picture, names=names)


def _picture(job: Job, one: Labelled, images: Images) -> Picture | None:
    if one.unusable is not None or "://" not in one.name:
        return usable_picture(one, images, job.tally)
    if one.wh is None:
        job.tally.drop("image", NO_SIZE, example=one.name)
        return None
    job.tally.note(REMOTE, example=one.name)
    return Picture(one.wh, name=one.name)


def _in_pixels(item: CocoObject, label: str, one: Labelled, picture: Picture) -> CocoObject:
    if isinstance(item.box, Unusable) or not one.fractions:
        return replace(item, label=label)
    width, height = picture.annotated_wh
    x1, y1, x2, y2 = item.box
    return replace(item, label=label, box=(x1 * width, y1 * height, x2 * width, y2 * height))
