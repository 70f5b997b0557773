"""Click targets: a window has buttons, check boxes and list rows, and the answer is the one to click."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any, ClassVar, NamedTuple

from PIL import Image, ImageDraw, ImageFont

from vlm_r1.errors import ConfigError
from vlm_r1.synthetic.base import Example, Size, World, draw_size, keep_trying, smallest_wh
from vlm_r1.synthetic.placement import PixelBox, Thing, place
from vlm_r1.synthetic.shapes import COLOURS
from vlm_r1.types import AnswerValue

LABELS = ("Save", "Open", "Copy", "Print", "Undo", "Help")
ROLES = ("button", "checkbox", "row")

MIN_SCREEN_WH = (84, 64)
"""(width, height) in pixels of the smallest window with enough room for its controls."""

INK, PAPER, FACE = (20, 20, 20), (255, 255, 255), (190, 190, 190)
GREYS = (210, 240)
"""Darkest and lightest level of the background; list rows and buttons have other levels."""

_PX_PER_SCALE = 96  # text and lines are twice as large if the shorter side has twice as many pixels, and so on
_TITLE_PX, _MARGIN_PX = 11, 2


class Control(NamedTuple):
    """A thing that can be clicked, e.g. `Control("Save", "button")`; a check box includes its label."""

    label: str
    role: str

    def __str__(self) -> str:
        return f"{self.label} {self.role}"


ALL_CONTROLS = tuple(Control(label, role) for label in LABELS for role in ROLES)
HELD_OUT_CONTROLS = tuple(Control(label, ROLES[i % len(ROLES)]) for i, label in enumerate(LABELS))
TRAINED_CONTROLS = tuple(control for control in ALL_CONTROLS if control not in HELD_OUT_CONTROLS)


@dataclass(frozen=True)
class Screen:
    """A window with its controls.

    Attributes:
        wh: (width, height) in pixels.
        grey: level of its background, in `GREYS`.
        accent: colour of its title bar, a name of `COLOURS`.
        things: controls that do not touch.
    """

    wh: tuple[int, int]
    grey: int
    accent: str
    things: tuple[Thing[Control], ...]

    def paint(self) -> Image.Image:
        """Draw the window; a control has no pixel outside its box."""
        image = Image.new("RGB", self.wh, (self.grey,) * 3)
        draw, scale = ImageDraw.Draw(image), scale_of(self.wh)
        width, bar = self.wh[0], _TITLE_PX * scale
        draw.rectangle((0, 0, width - 1, bar - 1), fill=COLOURS[self.accent])
        close = 5 * scale
        draw.rectangle((width - 2 * close, bar - 2 * close, width - close, bar - close), fill=PAPER)
        for thing in self.things:
            _paint_control(image, thing, scale)
        return image


@dataclass(frozen=True)
class ClickWorld(World[Control]):
    """No two controls of a window have both label and role in common; controls with the target's label are preferred.

    Attributes:
        wrong_share: share of the teacher's answers that are the region of another control.
    """

    image_sizes: tuple[Size, ...] = ((112, 112), (128, 96), (96, 128))
    target_kinds: tuple[Control, ...] = TRAINED_CONTROLS
    other_kinds: tuple[Control, ...] = TRAINED_CONTROLS
    min_objects: int = 2
    max_objects: int = 4
    thought: str = "question"
    wrong_share: float = 0.3

    task: ClassVar = "gui_click"
    all_kinds: ClassVar = ALL_CONTROLS
    held_out_kinds: ClassVar = HELD_OUT_CONTROLS
    levels: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "easy": {"min_objects": 1, "max_objects": 2},
        "medium": {},
        "hard": {"image_sizes": ((140, 140), (168, 112), (112, 168)), "min_objects": 5, "max_objects": 8},
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        for width, height in map(smallest_wh, self.image_sizes):
            if width < MIN_SCREEN_WH[0] or height < MIN_SCREEN_WH[1]:
                raise ConfigError(
                    f"a window of {width}x{height} pixels has no room for its controls; wanted at least "
                    f"{MIN_SCREEN_WH[0]}x{MIN_SCREEN_WH[1]}. Ask for larger images"
                )

    def draw(self, rng: Random) -> Example:
        """Draw a window and ask for its first control."""
        wh = draw_size(rng, self.image_sizes)
        grey, accent = rng.randint(*GREYS), rng.choice(list(COLOURS))
        n_objects = rng.randint(self.min_objects, self.max_objects)
        things = keep_trying(lambda: self._attempt(rng, wh, n_objects), wh, self)
        target = things[0]
        return Example((Screen(wh, grey, accent, things),), f"click the {target.kind}", list(target.box), {})

    def _attempt(self, rng: Random, wh: tuple[int, int], n_objects: int) -> tuple[Thing[Control], ...] | None:
        target = rng.choice(self.target_kinds)
        others = [control for control in self.other_kinds if control != target]
        rng.shuffle(others)
        others.sort(key=lambda control: control.label != target.label)  # those with the same label first, stably
        controls = [target, *others[: n_objects - 1]]
        return _placed(rng, wh, controls)

    def misjudge(self, rng: Random, example: Example) -> AnswerValue:
        """Give the right region, or that of another control."""
        target, *others = example.pictures[0].things
        wrong = rng.random() < self.wrong_share and others
        return list(rng.choice(others).box if wrong else target.box)


def scale_of(wh: tuple[int, int]) -> int:
    """Width in image pixels of one pixel of the bitmap font."""
    return max(1, min(wh) // _PX_PER_SCALE)


@cache
def text_mask(text: str, scale: int) -> Image.Image:
    """The trimmed pixels of a text in Pillow's built-in bitmap font, which is the same on all machines."""
    font = ImageFont.load_default_imagefont()
    mask = Image.new("L", (20 * len(text), 40))
    ImageDraw.Draw(mask).text((0, 0), text, fill=255, font=font)
    mask = mask.crop(mask.getbbox())
    return mask.resize((mask.width * scale, mask.height * scale), Image.Resampling.NEAREST)


def _placed(rng: Random, wh: tuple[int, int], controls: list[Control]) -> tuple[Thing[Control], ...] | None:
    """Place controls at random below the title bar; None if they did not fit."""
    scale = scale_of(wh)
    margin, top = _MARGIN_PX * scale, (_TITLE_PX + _MARGIN_PX) * scale
    room = (wh[0] - 2 * margin, wh[1] - top - margin)
    things = place(rng, room, [(control, _sides(rng, control, room, scale)) for control in controls])
    return things and tuple(Thing(thing.kind, _moved(thing.box, margin, top)) for thing in things)


def _moved(box: PixelBox, dx: int, dy: int) -> PixelBox:
    return box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy


def _sides(rng: Random, control: Control, room: tuple[int, int], scale: int) -> tuple[int, int]:
    """Draw width and height, with room for the label; a list row is wider than half of the window."""
    text = text_mask(control.label, scale).width
    if control.role == "button":
        return text + rng.randint(8, 16) * scale, rng.randint(14, 18) * scale
    if control.role == "checkbox":
        return text + 16 * scale, 12 * scale
    return round(room[0] * rng.uniform(0.6, 0.95)), rng.randint(13, 15) * scale


def _paint_control(image: Image.Image, thing: Thing[Control], scale: int) -> None:
    """Draw a button (framed, label in the middle), a check box (left of its label) or a list row (white)."""
    draw, text = ImageDraw.Draw(image), text_mask(thing.kind.label, scale)
    x1, y1, x2, y2 = thing.box
    last = (x2 - 1, y2 - 1)
    middle = y1 + (y2 - y1 - text.height) // 2
    if thing.kind.role == "button":
        draw.rectangle(((x1, y1), last), fill=FACE, outline=INK, width=scale)
        at = (x1 + (x2 - x1 - text.width) // 2, middle)
    elif thing.kind.role == "checkbox":
        side = y2 - y1
        draw.rectangle((x1, y1, x1 + side - 1, y2 - 1), fill=PAPER, outline=INK, width=scale)
        at = (x2 - text.width, middle)
    else:
        draw.rectangle(((x1, y1), last), fill=PAPER)
        draw.rectangle((x1, y2 - scale, x2 - 1, y2 - 1), fill=INK)
        at = (x1 + 4 * scale, middle)
    image.paste(INK, at, text)
