"""Labels on the boxes of a picture: where each stands, so that it can be read and covers as little as possible."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vlm_r1.geometry.boxes import clip_box

LONGEST = 28
"""Characters of a label that are drawn; the whole label is shown on hover."""

_WIDTH_SHARE, _HEIGHT_SHARE = 27, 37
"""A picture is at most so many times as wide, and as high, as the size of the letters: a card shows it 340 px wide or
460 px high, so the letters have some 12.5 px."""

_MANY, _SMALLER = 12, 0.75
"""Above this number of labels the letters are smaller by this factor."""

_LINE = 1.3
"""Height of a plate, in sizes of its letters."""

_PADDING = 0.3
"""Space to the left and to the right of the letters, in their size."""

_WIDE, _NARROW, _OTHER = 1.05, 0.36, 0.64
"""Widths of letters of a sans-serif font, in their size: East Asian ones, i and the like, and the others."""

_NARROW_LETTERS = frozenset(" !'(),.:;I[]fijlrt|")

_BESIDE = 0.17
"""The browser shows so much, in heights of a tall picture, to the left and right of its middle."""

_MOST_LABELS = 100
"""Labels that are placed on one picture."""

_MOST_ROWS, _ROWS_AWAY = 12, 2
"""Rows inside a box, and above and below it, at which a label may stand if its edges are taken."""

_MOST_COVERED = 0.12
"""A label is left out if it and another would share more than this of the smaller one: neither could be read."""

Rectangle = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Tag:
    """A label and the plate behind it, in pixels of the original image.

    Attributes:
        text: the label, cut so that it fits.
        x, y, width, height: the plate.
        size: of the letters.
    """

    text: str
    x: float
    y: float
    width: float
    height: float
    size: float

    @property
    def text_x(self) -> float:
        """Where the text begins."""
        return self.x + _PADDING * self.size

    @property
    def text_y(self) -> float:
        """Its base line."""
        return self.y + 0.97 * self.size

    @property
    def text_width(self) -> float:
        """How wide the text is drawn, whatever font the browser has."""
        return self.width - 2 * _PADDING * self.size


def place_labels(labels: Sequence[tuple[str, Rectangle, bool]], wh: tuple[int, int]) -> list[Tag | None]:
    """Place the labels of boxes inside a picture and beside one another.

    Args:
        labels: the text of each, its box, and whether it should stand at the top of the box (or else at the bottom).
            Labels without text have no place.
        wh: width and height of the picture.

    Returns:
        The places, in the same order; None: no label, or no place where it and the others could be read.

    >>> [tag] = place_labels([("cat", (10, 20, 60, 90), True)], (270, 270))
    >>> tag.text, tag.x, tag.y, tag.size  # above its box: 20 - 13
    ('cat', 10, 7.0, 10.0)
    """
    n = sum(bool(text) for text, _, _ in labels)
    width, height = wh
    letters = max(width / _WIDTH_SHARE, height / _HEIGHT_SHARE) * (_SMALLER if n > _MANY else 1)
    size = min(letters, height / (1.15 * _LINE))
    beside = max(0.0, _BESIDE * height - width / 2)
    inside = (-beside, 0.0, width + beside, float(height))
    taken: list[Rectangle] = []
    tags: list[Tag | None] = []
    for text, box, at_top in labels:
        free = text and len(taken) < _MOST_LABELS
        tag = _placed(text, clip_box(box, wh), size, at_top=at_top, inside=inside, taken=taken) if free else None
        taken += [_rectangle(tag)] if tag else []
        tags.append(tag)
    return tags


def text_width(text: str) -> float:
    """Estimate the width of a text in sizes of its letters; at least one.

    >>> round(text_width("cat"), 2), text_width("猫")  # 0.64 + 0.64 + 0.36
    (1.64, 1.05)
    """
    widths = (_letter(letter) for letter in text if not unicodedata.combining(letter))
    return max(1.0, sum(widths))


def _letter(letter: str) -> float:
    if unicodedata.east_asian_width(letter) in "WF":
        return _WIDE
    return _NARROW if letter in _NARROW_LETTERS else _OTHER * (1.25 if letter.isupper() or letter in "mw" else 1)


def _placed(
    text: str, box: Rectangle, size: float, *, at_top: bool, inside: Rectangle, taken: Sequence[Rectangle]
) -> Tag | None:
    shown, width = _cut(text, size, inside[2] - inside[0])
    height = _LINE * size
    best: tuple[float, Rectangle] | None = None
    for x, y in _candidates(box, width, height, at_top):
        x = min(max(x, inside[0]), inside[2] - width)
        y = min(max(y, inside[1]), inside[3] - height)
        plate = (x, y, x + width, y + height)
        covered = max((_shared(plate, other) for other in taken), default=0.0)
        if best is None or covered < best[0] - 1e-9:
            best = (covered, plate)
        if not covered:
            break
    if best is None or best[0] > _MOST_COVERED:
        return None
    x, y, _, _ = best[1]
    return Tag(shown, x, y, width, height, size)


def _cut(text: str, size: float, most: float) -> tuple[str, float]:
    """The text, cut to `LONGEST` characters and to a width; and the width of its plate."""
    shown = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    while len(shown) > 2 and (text_width(shown) + 2 * _PADDING) * size > most:
        shown = f"{shown[:-2]}…"
    return shown, min((text_width(shown) + 2 * _PADDING) * size, most)


def _candidates(box: Rectangle, width: float, height: float, at_top: bool) -> Iterator[tuple[float, float]]:
    """Yield the left upper corners that a plate may have, the best first: at the edges of its box, inside, near it."""
    x1, y1, x2, y2 = box
    above, below, first, last = y1 - height, y2, y1, y2 - height
    rows = [above, first, below, last] if at_top else [below, last, above, first]
    rows += [first + n * height for n in range(1, _MOST_ROWS) if first + n * height < last]
    rows += [y for n in range(1, _ROWS_AWAY + 1) for y in (above - n * height, below + n * height)]
    for y in rows:
        yield from ((x, y) for x in (x1, x2 - width, (x1 + x2 - width) / 2))


def _rectangle(tag: Tag) -> Rectangle:
    return (tag.x, tag.y, tag.x + tag.width, tag.y + tag.height)


def _shared(a: Rectangle, b: Rectangle) -> float:
    """The share of the smaller of two plates that both cover."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min((one[2] - one[0]) * (one[3] - one[1]) for one in (a, b))
