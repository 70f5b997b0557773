"""Coloured shapes on plain pictures, for the worlds rec, ovd, counting and change."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar, NamedTuple

from PIL import Image, ImageDraw

from vlm_r1.errors import ConfigError
from vlm_r1.synthetic.base import Size, World, smallest_wh
from vlm_r1.synthetic.placement import Thing

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 220),
    "yellow": (230, 210, 40),
}
SHAPES = ("circle", "square", "triangle")

MIN_SIDE_PX = 6
"""Least side in pixels: a smaller circle looks almost like a square."""


class Kind(NamedTuple):
    """Colour and shape of a thing, e.g. `Kind("red", "circle")`."""

    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"


ALL_KINDS = tuple(Kind(colour, shape) for colour in COLOURS for shape in SHAPES)
HELD_OUT_KINDS = (Kind("red", "triangle"), Kind("blue", "circle"), Kind("yellow", "square"))
TRAINED_KINDS = tuple(kind for kind in ALL_KINDS if kind not in HELD_OUT_KINDS)


@dataclass(frozen=True)
class Shapes:
    """A picture of shapes that do not touch.

    Attributes:
        wh: (width, height) of the picture in pixels.
        grey: level of its background, 225–255.
        things: the shapes.
    """

    wh: tuple[int, int]
    grey: int
    things: tuple[Thing[Kind], ...]

    def paint(self) -> Image.Image:
        """Draw the picture; each shape touches all four edges of its box and no pixel outside."""
        image = Image.new("RGB", self.wh, (self.grey,) * 3)
        draw = ImageDraw.Draw(image)
        for thing in self.things:
            x1, y1, x2, y2 = thing.box
            last = (x2 - 1, y2 - 1)  # Pillow's boxes include their last pixel
            fill = COLOURS[thing.kind.colour]
            if thing.kind.shape == "circle":
                draw.ellipse(((x1, y1), last), fill=fill)
            elif thing.kind.shape == "square":
                draw.rectangle(((x1, y1), last), fill=fill)
            else:
                draw.polygon([((x1 + x2 - 1) // 2, y1), last, (x1, y2 - 1)], fill=fill)
        return image


@dataclass(frozen=True)
class ShapeWorld(World[Kind], ABC):
    """A world of shapes.

    Attributes:
        side_range: smallest and largest side of a shape, as a share of the shorter side of the image.
    """

    image_sizes: tuple[Size, ...] = ((56, 56), (64, 60), (60, 64), (52, 52))
    target_kinds: tuple[Kind, ...] = TRAINED_KINDS
    other_kinds: tuple[Kind, ...] = TRAINED_KINDS
    min_objects: int = 1
    max_objects: int = 4
    thought: str = "question"
    side_range: tuple[float, float] = (0.2, 0.4)

    all_kinds: ClassVar = ALL_KINDS
    held_out_kinds: ClassVar = HELD_OUT_KINDS

    def __post_init__(self) -> None:
        super().__post_init__()
        for wh in map(smallest_wh, self.image_sizes):
            low, _ = self.side_limits(wh)
            if low < MIN_SIDE_PX:
                raise ConfigError(
                    f"shapes on images of {wh[0]}x{wh[1]} pixels would be {low} pixels small; wanted at least "
                    f"{MIN_SIDE_PX}. Ask for larger images or an easier world"
                )

    def side_limits(self, wh: tuple[int, int]) -> tuple[int, int]:
        """Smallest and largest side in pixels."""
        low, high = (round(share * min(wh)) for share in self.side_range)
        return low, high

    def draw_sides(self, rng: Random, wh: tuple[int, int]) -> tuple[int, int]:
        """Draw width and height of a shape, with a ratio of at most 1.25."""
        low, high = self.side_limits(wh)
        width = rng.randint(low, high)
        height = round(width * rng.uniform(0.8, 1.25))
        return width, min(max(height, low), high)


def draw_grey(rng: Random) -> int:
    """Draw the level of a light background."""
    return rng.randint(225, 255)


def look_alikes(kind: Kind, among: Sequence[Kind]) -> list[Kind]:
    """The other kinds that share a colour or a shape with this one: the hard negatives."""
    return [k for k in among if k != kind and (k.colour == kind.colour or k.shape == kind.shape)]
