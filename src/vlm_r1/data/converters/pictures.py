"""The images of a source: where they lie, whether they are there, and how large they are."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from vlm_r1.data.converters.base import Tally
from vlm_r1.data.coordinates import upright_box
from vlm_r1.data.images import SWAPS_SIDES, image_orientation, image_size
from vlm_r1.data.rows import BOX_TOLERANCE_PX
from vlm_r1.errors import DataError
from vlm_r1.geometry.boxes import clip_box
from vlm_r1.types import AnswerValue, Box

MIN_SIDE_PX = 1.0
"""Thinner boxes are dropped: models write whole pixels, so no answer could be such a box."""

NOT_FOUND = "image not found"
UNREADABLE = "image cannot be read"
OTHER_SIZE = "image is not of the size that the annotations say"
TURNED = "image annotated as it is stored, its boxes turned by its EXIF orientation"
OUTSIDE = "outside its image"
THIN = f"thinner than {MIN_SIDE_PX:g} px"
CLIPPED = f"box reached more than {BOX_TOLERANCE_PX:g} px over its image, clipped"


@dataclass(frozen=True)
class Unusable:
    """Why an image or a box cannot be used, e.g. `Unusable("image not found")`."""

    reason: str


@dataclass(frozen=True)
class Picture:
    """An image that is there.

    Attributes:
        wh: width and height in pixels of the upright image.
        turn: EXIF orientation by which its boxes must be turned; 1: they lie on the upright image already.
    """

    wh: tuple[int, int]
    turn: int = 1


@dataclass(frozen=True)
class Images:
    """The images below one folder, each looked at once.

    Attributes:
        root: the folder.
        verify: compare the annotated size with the file's own.
    """

    root: Path
    verify: bool = False
    _seen: dict[str, Picture | Unusable] = field(default_factory=dict, repr=False)

    def look(self, name: str, annotated_wh: tuple[int, int] | None, tally: Tally) -> Picture | Unusable:
        """The image, or why it cannot be used.

        Args:
            name: relative to the root.
            annotated_wh: the size that the annotations give, which is believed unless `verify` is set; None: they
                give none, and the file's header is read.
            tally: gets a note of images that were annotated as they are stored.
        """
        if name not in self._seen:
            self._seen[name] = found = self._look(os.path.join(self.root, name), annotated_wh)
            if isinstance(found, Picture) and found.turn != 1:
                tally.notes[TURNED] += 1
        return self._seen[name]

    def _look(self, path: str, annotated_wh: tuple[int, int] | None) -> Picture | Unusable:
        if not os.path.isfile(path):
            return Unusable(NOT_FOUND)
        if annotated_wh and not self.verify:
            return Picture(annotated_wh)
        try:
            upright_wh, orientation = image_size(path), image_orientation(path)
        except DataError:
            return Unusable(UNREADABLE)
        if annotated_wh in (None, upright_wh):
            return Picture(upright_wh)
        if annotated_wh == upright_wh[::-1] and orientation in SWAPS_SIDES:
            return Picture(upright_wh, orientation)
        return Unusable(OTHER_SIZE)


def find_root(given: Path | None, candidates: list[Path], name: str) -> Path:
    """The folder given, or the first of the candidates that holds the image of that name.

    Raises:
        DataError: the folder given does not exist, or no candidate holds the image.
    """
    if given is not None:
        if not given.is_dir():
            raise DataError(f"{given}: no such folder of images (--images)")
        return given
    for folder in candidates:
        if (folder / name).is_file():
            return folder
    looked = ", ".join(dict.fromkeys(str(folder) for folder in candidates))
    raise DataError(f"the images were not found: no {name} in {looked}. Name their folder by --images")


def from_xywh(numbers: list[float]) -> Box:
    """COCO's (x, y, width, height) as corners.

    >>> from_xywh([10, 20, 100, 200])
    (10, 20, 110, 220)
    """
    x, y, width, height = numbers
    return (x, y, x + width, y + height)


def usable_box(box: Box, picture: Picture, tally: Tally) -> Box | Unusable:
    """The part of a box that lies on its upright image, rounded to a hundredth of a pixel, if it is not too thin.

    Args:
        box: xyxy in pixels, as annotated.
        picture: its image.
        tally: gets a note of boxes that reached clearly over their image.

    >>> usable_box((10, 20, 110.004, 481), Picture((640, 480)), Tally())
    (10, 20, 110, 480)
    >>> usable_box((700, 20, 800, 40), Picture((640, 480)), Tally())
    Unusable(reason='outside its image')
    """
    if picture.turn != 1:
        height, width = picture.wh  # as stored: a turned image was stored with its sides swapped
        box = upright_box(box, (width, height), picture.turn)
    x1, y1, x2, y2 = box
    if x2 - x1 < MIN_SIDE_PX or y2 - y1 < MIN_SIDE_PX:
        return Unusable(THIN)
    clipped = clip_box(box, picture.wh)
    if clipped[2] - clipped[0] < MIN_SIDE_PX or clipped[3] - clipped[1] < MIN_SIDE_PX:
        return Unusable(OUTSIDE)
    if max(abs(a - b) for a, b in zip(box, clipped, strict=True)) > BOX_TOLERANCE_PX:
        tally.notes[CLIPPED] += 1
    x1, y1, x2, y2 = map(_tidy, clipped)
    return (x1, y1, x2, y2)


def _tidy(number: float) -> float:
    """A hundredth of a pixel is enough; whole numbers as integers."""
    rounded = round(number, 2)
    return int(rounded) if rounded == int(rounded) else rounded


def as_json(box: Box) -> AnswerValue:
    """A box as it stands in a line."""
    return list(box)
