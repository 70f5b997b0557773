"""The images of a source: their folder, whether they exist, and their sizes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

from vlm_r1.config.data import DataSource
from vlm_r1.converters.base import Job, Tally
from vlm_r1.data.coordinates import upright_box
from vlm_r1.data.image_paths import ImagePaths, image_paths
from vlm_r1.data.images import SWAPS_SIDES, image_orientation, image_size, spellings
from vlm_r1.data.rows import BOX_TOLERANCE_PX
from vlm_r1.errors import DataError, brief
from vlm_r1.geometry.boxes import clip_box
from vlm_r1.types import AnswerValue, Box

MIN_SIDE_PX = 1.0
"""Thinner boxes are dropped: models write whole pixels, so no answer could match such a box."""

NOT_FOUND = "image not found"
UNREADABLE = "image cannot be read"
OTHER_SIZE = "image is not of the size that the annotations say"
TURNED = "image annotated as it is stored, its boxes turned by its EXIF orientation"
LINKED = "image behind a link out of the images' folder: allow its folder by --allowed-local-media-path"
OUTSIDE = "outside its image"
THIN = f"thinner than {MIN_SIDE_PX:g} px"
CUT = "folders cut off the beginning of the images' names"
SIZE_READ = "image without a size in the annotations, read from its file"
CLIPPED = f"box reached more than {BOX_TOLERANCE_PX:g} px over its image, clipped"


@dataclass(frozen=True)
class Unusable:
    """Why an image or a box cannot be used, e.g. `Unusable("image not found", "coco/1.jpg")`."""

    reason: str
    example: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True)
class Picture:
    """An image file that exists.

    Attributes:
        wh: width and height in pixels of the upright image.
        turn: EXIF orientation by which its boxes must be turned; 1: they already lie on the upright image.
        name: path below the root, as spelled on the disk.
    """

    wh: tuple[int, int]
    turn: int = 1
    name: str = field(default="", compare=False)

    @property
    def annotated_wh(self) -> tuple[int, int]:
        """Width and height in pixels of the image on which its boxes lie as annotated."""
        return (self.wh[1], self.wh[0]) if self.turn in SWAPS_SIDES else self.wh


@dataclass(frozen=True)
class Images:
    """The images below one folder; each is read once.

    Attributes:
        root: the folder.
        verify: whether the annotated size is compared with the file's own.
        stored: whether all boxes lie on the images as they are stored; with it, headers are always read.
        removed_prefix: folders above the root with which names start, e.g. "images/" or "C:/data/images/".
    """

    root: Path
    verify: bool = False
    removed_prefix: str = ""
    stored: bool = False
    _seen: dict[str, Picture | Unusable] = field(default_factory=dict[str, Picture | Unusable], repr=False)

    def picture(self, name: str, annotated_wh: tuple[int, int] | None, tally: Tally) -> Picture | Unusable:
        """Return the image, or why it cannot be used.

        Args:
            name: relative to the root, with / or Windows' \\, its accents composed or not.
            annotated_wh: the size in the annotations, which is trusted unless `verify` is set; None: they give none,
                and the file's header is read.
            tally: gets a note of images whose boxes must be turned upright.
        """
        if name not in self._seen:
            self._seen[name] = found = self._read(name, annotated_wh, tally)
            if isinstance(found, Picture) and found.turn != 1:
                tally.note(TURNED, example=name)
        return self._seen[name]

    def find(self, name: str, tally: Tally | None = None) -> str | None:
        """Return the name of a file below the root, as spelled on the disk; None: there is no such file.

        Args:
            name: as in `picture`.
            tally: gets a note if a link leads out of the root, for then the lines that are written need leave.
        """
        found = next((form for form in self._forms(name) if self._has(form)), None)
        if found is not None and tally is not None and not self._places.is_inside(found):
            tally.note(LINKED, example=f"{found} is {os.path.realpath(os.path.join(self.root, found))}")
        return found

    @cached_property
    def _places(self) -> ImagePaths:
        return image_paths(DataSource(path="", image_root=os.path.abspath(self.root)))

    def _has(self, form: str) -> bool:
        """Whether there is such a file, and its name does not lead upwards out of the root."""
        path = os.path.join(self._places.root, form)
        return os.path.normpath(path).startswith(os.path.join(self._places.root, "")) and os.path.isfile(path)

    def _forms(self, name: str) -> Iterator[str]:
        """Yield the spellings that a name may have on this disk, the given one first."""
        yield from spellings(name)
        if self.removed_prefix:
            yield from spellings(name.replace("\\", "/").removeprefix(self.removed_prefix))

    def _read(self, name: str, annotated_wh: tuple[int, int] | None, tally: Tally) -> Picture | Unusable:
        found = self.find(name, tally)
        if found is None:
            return Unusable(NOT_FOUND, os.path.join(self.root, name))
        if annotated_wh and not self.verify and not self.stored:
            return Picture(annotated_wh, name=found)
        path = os.path.join(self.root, found)
        try:
            upright_wh, orientation = image_size(path), image_orientation(path)
        except DataError as error:
            return Unusable(UNREADABLE, str(error))
        turned = Picture(upright_wh, orientation, found)
        if annotated_wh in (None, upright_wh) and not self.stored:
            return Picture(upright_wh, name=found)
        if annotated_wh in (None, turned.annotated_wh) and (self.stored or orientation in SWAPS_SIDES):
            return turned
        (width, height), (w, h) = annotated_wh or (0, 0), upright_wh
        return Unusable(OTHER_SIZE, f"{path}: annotated {width}x{height}, is {w}x{h}")


_TRIED = 50
"""Number of names that are tried to find the folder of the images, since the first images may be missing."""


def find_images(job: Job, candidates: Sequence[Path], names: Iterable[str]) -> Images:
    """Find the images below the given folder (--images), or below the first candidate that holds one of the names.

    If no candidate does, as few leading folders as possible are removed from the names, and the tally notes this: the
    tool that wrote them had its files elsewhere. The removed prefix has to begin all names or end in the name of the
    folder, so that `cats/1.jpg` never becomes the `1.jpg` of another folder.

    Raises:
        DataError: the given folder does not exist, or no candidate holds an image.
    """
    if job.images is not None and not job.images.is_dir():
        raise DataError(f"{job.images}: no such folder of images (--images)")
    tried = list(islice(names, _TRIED))
    folders = [Images(root, job.verify) for root in ((job.images,) if job.images else dict.fromkeys(candidates))]
    for images in (images for name in tried for images in folders if images.find(name) is not None):
        return images
    for name in tried:
        for images in (replace(images, removed_prefix=prefix) for prefix in _beginnings(name) for images in folders):
            if images.find(name) is not None and _may_remove_prefix(images, tried):
                job.tally.note(CUT, example=f"{name} is {images.find(name)}")
                return images
    if job.images is not None or not tried:
        return folders[0]
    looked = ", ".join(str(images.root) for images in folders)
    raise DataError(f"the images were not found: no {brief(tried[0])} in {looked}. Name their folder by --images")


def _may_remove_prefix(images: Images, names: Sequence[str]) -> bool:
    ends_alike = images.removed_prefix.rstrip("/").rpartition("/")[2] == images.root.resolve().name
    return ends_alike or all(name.replace("\\", "/").startswith(images.removed_prefix) for name in names)


def _beginnings(name: str) -> Iterator[str]:
    """The leading folders of a name, the shortest first.

    >>> list(_beginnings("C:\\\\data\\\\a.jpg"))
    ['C:/', 'C:/data/']
    """
    folders = name.replace("\\", "/").split("/")[:-1]
    return ("/".join(folders[:n]) + "/" for n in range(1, len(folders) + 1))


def from_xywh(numbers: list[float]) -> Box:
    """Turn COCO's (x, y, width, height) into corners.

    >>> from_xywh([10, 20, 100, 200])
    (10, 20, 110, 220)
    """
    x, y, width, height = numbers
    return (x, y, x + width, y + height)


def usable_box(box: Box, picture: Picture, tally: Tally) -> Box | Unusable:
    """Clip a box to its upright image and round it to a hundredth of a pixel; `Unusable` if the result is too thin.

    Args:
        box: xyxy in pixels, as annotated.
        picture: its image.
        tally: gets a note of boxes that reached over their image by more than `BOX_TOLERANCE_PX`.

    >>> usable_box((10, 20, 110.004, 481), Picture((640, 480)), Tally())
    (10, 20, 110, 480)
    >>> usable_box((700, 20, 800, 40), Picture((640, 480)), Tally())
    Unusable(reason='outside its image')
    """
    if picture.turn != 1:
        box = upright_box(box, picture.annotated_wh, picture.turn)
    x1, y1, x2, y2 = box
    if x2 - x1 < MIN_SIDE_PX or y2 - y1 < MIN_SIDE_PX:
        return Unusable(THIN)
    clipped = clip_box(box, picture.wh)
    if clipped[2] - clipped[0] < MIN_SIDE_PX or clipped[3] - clipped[1] < MIN_SIDE_PX:
        return Unusable(OUTSIDE)
    if max(abs(a - b) for a, b in zip(box, clipped, strict=True)) > BOX_TOLERANCE_PX:
        tally.note(CLIPPED, example=picture.name)
    x1, y1, x2, y2 = map(_tidy, clipped)
    return (x1, y1, x2, y2)


def _tidy(number: float) -> float:
    """Round to a hundredth of a pixel; return whole numbers as integers."""
    rounded = round(number, 2)
    return int(rounded) if rounded == int(rounded) else rounded


def as_json(box: Box) -> AnswerValue:
    """Return a box as a list, as it is written in a line."""
    return list(box)
