"""Boxes and points of answers on a picture, in its own size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from vlm_r1.report.drawing import MAX_BOXES
from vlm_r1.runtime.text import visible
from vlm_r1.types import Box

COLOURS = ("#d73027", "#4575b4", "#1a9850", "#762a83", "#8c510a", "#01665e", "#c51b7d", "#e08214")
_LINE = 320  # of the longer side, one pixel of line each
_TEXT = 45
_LEAST_TEXT_PX = 12
_LABEL_CHARS = 60
_FAR_PX = 1e6


class Mark(NamedTuple):
    """A box on one picture, in pixels, or a point as a box without sides; its label, and the number of its colour."""

    box: Box
    label: str = ""
    colour: int = 0


def draw_marks(image: Image.Image, marks: Sequence[Mark]) -> Image.Image:
    """Return the picture with its first marks (`MAX_BOXES`); what lies outside of it is drawn at its edge.

    Lines and texts grow with the picture, so that they are seen on a large one too.
    """
    picture = image.convert("RGB")
    draw, longest = ImageDraw.Draw(picture), max(picture.size)
    line, font = max(2, round(longest / _LINE)), ImageFont.load_default(max(_LEAST_TEXT_PX, longest / _TEXT))
    for (x1, y1, x2, y2), label, number in marks[:MAX_BOXES]:
        colour = COLOURS[number % len(COLOURS)]
        left, right = (_within(x, picture.width) for x in sorted((x1, x2)))
        top, bottom = (_within(y, picture.height) for y in sorted((y1, y2)))
        if (x1, y1) == (x2, y2):
            radius = 3 * line
            draw.ellipse((left - radius, top - radius, left + radius, top + radius), fill=colour, outline="white")
        else:
            draw.rectangle((left, top, right, bottom), outline=colour, width=line)
        if label:
            _write(draw, visible(label[:_LABEL_CHARS]), (left, top), colour, font)
    return picture


def _write(
    draw: ImageDraw.ImageDraw,
    text: str,
    corner: tuple[float, float],
    colour: str,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> None:
    """Write a label above its box, or inside it at the upper edge of the picture."""
    left, _, right, bottom = draw.textbbox((0, 0), text, font=font)
    x, y = corner[0], corner[1] - bottom - 2
    y = corner[1] if y < 0 else y
    draw.rectangle((x, y, x + right - left + 4, y + bottom + 2), fill=colour)
    draw.text((x + 2, y), text, fill="white", font=font)


def _within(value: float, side: int) -> float:
    return min(max(value, 0.0), side - 1.0)
