"""A small world for the demo: coloured shapes on plain pictures, each expression naming exactly one of them.

Every record is drawn from its own random stream, named by seed, split and number: a longer data set starts with the
shorter one, and no split shares a stream with another. Described in docs/data.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from PIL import Image, ImageDraw

from vlm_r1.errors import DataError
from vlm_r1.types import IMAGE_TOKEN

PixelBox = tuple[int, int, int, int]
"""`(x1, y1, x2, y2)`: the shape covers the pixels x1 … x2 − 1 and y1 … y2 − 1, so its area is (x2 − x1)(y2 − y1)."""

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 80, 220),
    "yellow": (230, 210, 40),
}
SHAPES = ("circle", "square", "triangle")

SIZE_FACTOR = 1.5
"""Of two shapes told apart as "small" and "large", both sides of the large one are at least so many times longer."""

LOOSENESS = 0.5
"""Warm-up boxes: each edge is moved out by a uniform share, up to this one, of the box's side."""

DEFAULT_COUNTS = {"train": 8000, "warmup": 8000, "in_domain": 512, "out_of_domain": 512}
"""Lines of each file; `warmup` repeats the first records of `train`."""

_GAP_PX = 2
_PLACE_OBJECTS = 3  # the shape asked for, its twin and a landmark
_ATTEMPTS = 30


class Kind(NamedTuple):
    """What a shape looks like, e.g. `Kind("red", "circle")`."""

    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"


ALL_KINDS = tuple(Kind(colour, shape) for colour in COLOURS for shape in SHAPES)
HELD_OUT_KINDS = (Kind("red", "triangle"), Kind("blue", "circle"), Kind("yellow", "square"))
"""Never drawn in the training world; what is asked for out of domain."""

TRAINED_KINDS = tuple(kind for kind in ALL_KINDS if kind not in HELD_OUT_KINDS)


@dataclass(frozen=True)
class World:
    """The distribution that scenes are drawn from; the defaults are the training world.

    Attributes:
        image_sizes: (width, height) in pixels, all equally likely.
        target_kinds: what is asked for.
        other_kinds: what else may stand in the picture.
        min_objects, max_objects: how many shapes a picture holds. A pair told apart by size needs 2, by place 3; such
            pictures hold at least so many.
        side_range: smallest and largest side of a shape, as a share of the shorter side of the image.
        relation_share: share of scenes with two shapes of the asked kind, told apart by their size or by their place.
    """

    image_sizes: tuple[tuple[int, int], ...] = ((56, 56), (64, 60), (60, 64), (52, 52))
    target_kinds: tuple[Kind, ...] = TRAINED_KINDS
    other_kinds: tuple[Kind, ...] = TRAINED_KINDS
    min_objects: int = 1
    max_objects: int = 2
    side_range: tuple[float, float] = (0.26, 0.5)
    relation_share: float = 0.2


def shifted(world: World) -> World:
    """The same world out of domain: unseen image sizes, unseen kinds asked for, one shape more than ever before."""
    more = max(world.max_objects, _PLACE_OBJECTS) + 1
    return replace(
        world,
        image_sizes=((84, 56), (56, 84)),
        target_kinds=HELD_OUT_KINDS,
        other_kinds=ALL_KINDS,
        min_objects=more,
        max_objects=more,
    )


@dataclass(frozen=True)
class Thing:
    """One shape of a scene."""

    kind: Kind
    box: PixelBox


@dataclass(frozen=True)
class Scene:
    """A picture and a question about it.

    Attributes:
        wh: (width, height) of the picture in pixels.
        grey: level of its background, 225–255.
        things: shapes that do not touch; the first is the one asked for.
        expression: names the first and no other, e.g. "the small red circle".
        asks_by: what tells it apart: "kind", "size" or "place".
    """

    wh: tuple[int, int]
    grey: int
    things: tuple[Thing, ...]
    expression: str
    asks_by: str


def draw_scene(rng: Random, world: World) -> Scene:
    """Draw a scene; crowded attempts are thrown away until everything fits."""
    wh = rng.choice(world.image_sizes)
    grey = rng.randint(225, 255)
    asks_by = rng.choice(("size", "place")) if rng.random() < world.relation_share else "kind"
    plan = {"kind": _ask_by_kind, "size": _ask_by_size, "place": _ask_by_place}[asks_by]
    n_objects = rng.randint(world.min_objects, world.max_objects)
    while True:
        planned = plan(rng, world, wh, n_objects)
        if planned:
            things, expression = planned
            return Scene(wh, grey, tuple(things), expression, asks_by)


def paint(scene: Scene) -> Image.Image:
    """The picture of a scene; each shape touches all four edges of its box and no pixel outside."""
    image = Image.new("RGB", scene.wh, (scene.grey,) * 3)
    draw = ImageDraw.Draw(image)
    for thing in scene.things:
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


def write_rec_dataset(
    folder: str | os.PathLike[str],
    seed: int = 0,
    counts: Mapping[str, int] = DEFAULT_COUNTS,
    world: World = World(),
) -> dict[str, Path]:
    """Write pictures and data files of the referring-expression demo; the same arguments give the same bytes.

    `images/<split>/000001.png` and `<split>.jsonl` for train, in_domain (both drawn from `world`) and out_of_domain
    (`shifted(world)`); `warmup.jsonl` repeats the first training records with a thought and loose boxes. The scene
    stands in each line under the extra key "scene".

    Args:
        folder: made if missing; files of these names are replaced.
        seed: names the random streams.
        counts: lines of each file, with the keys of `DEFAULT_COUNTS`.
        world: what training scenes look like.

    Returns:
        The four JSONL files by name.

    Raises:
        DataError: more warm-up than training records are asked for, or the folder cannot be written.
    """
    if counts["warmup"] > counts["train"]:
        raise DataError(
            f"{counts['warmup']} warm-up records of {counts['train']} training records; wanted at most as many"
        )
    folder = Path(folder)
    worlds = {"train": world, "in_domain": world, "out_of_domain": shifted(world)}
    lines: dict[str, list[dict[str, Any]]] = {"warmup": []}
    try:
        for split, split_world in worlds.items():
            (folder / "images" / split).mkdir(parents=True, exist_ok=True)
            lines[split] = [_write_record(folder, split, i, seed, split_world) for i in range(1, counts[split] + 1)]
        lines["warmup"] = [_loosened(line, seed) for line in lines["train"][: counts["warmup"]]]
        return {split: _write_lines(folder / f"{split}.jsonl", lines[split]) for split in DEFAULT_COUNTS}
    except OSError as error:
        raise DataError(
            f"{folder}: cannot write the data set: {error.strerror}. Choose a folder you may write"
        ) from error


def loosen(box: PixelBox, wh: tuple[int, int], rng: Random) -> PixelBox:
    """A badly calibrated teacher's box: every edge too far out, by a uniform share (0 to `LOOSENESS`) of the side."""
    x1, y1, x2, y2 = box
    left, top, right, bottom = (rng.uniform(0, LOOSENESS) * side for side in (x2 - x1, y2 - y1) * 2)
    return (
        max(0, round(x1 - left)),
        max(0, round(y1 - top)),
        min(wh[0], round(x2 + right)),
        min(wh[1], round(y2 + bottom)),
    )


Planned = tuple[list[Thing], str] | None
"""Things, the one asked for first, with the expression for it; None if they did not fit."""


def _ask_by_kind(rng: Random, world: World, wh: tuple[int, int], n_objects: int) -> Planned:
    kind = rng.choice(world.target_kinds)
    kinds = [kind, *_others(rng, world, kind, n_objects - 1)]
    things = _placed(rng, wh, [(k, _sides(rng, world, wh)) for k in kinds])
    return (things, f"the {kind}") if things else None


def _ask_by_size(rng: Random, world: World, wh: tuple[int, int], n_objects: int) -> Planned:
    kind = rng.choice(world.target_kinds)
    small, large = _small_and_large(rng, world, wh)
    word = rng.choice(("small", "large"))
    pair = [(kind, small), (kind, large)] if word == "small" else [(kind, large), (kind, small)]
    others = [(k, _sides(rng, world, wh)) for k in _others(rng, world, kind, max(n_objects, 2) - 2)]
    things = _placed(rng, wh, pair + others)
    return (things, f"the {word} {kind}") if things else None


def _ask_by_place(rng: Random, world: World, wh: tuple[int, int], n_objects: int) -> Planned:
    kind = rng.choice(world.target_kinds)
    others = _others(rng, world, kind, max(n_objects, _PLACE_OBJECTS) - 2)
    things = _placed(rng, wh, [(k, _sides(rng, world, wh)) for k in (kind, kind, *others)])
    if not things:
        return None
    words = [word for word in PLACES if _told_apart(word, *(thing.box for thing in things[:3]))]
    return (things, f"the {kind} {rng.choice(words)} the {things[2].kind}") if words else None


PLACES = ("left of", "right of", "above", "below")


def _told_apart(word: str, target: PixelBox, twin: PixelBox, landmark: PixelBox) -> bool:
    """Whether all of the target lies beyond that edge of the landmark, and the twin's centre not beyond its centre."""
    low, high = (0, 2) if word in ("left of", "right of") else (1, 3)
    if word in ("left of", "above"):
        return target[high] <= landmark[low] and twin[low] + twin[high] >= landmark[low] + landmark[high]
    return target[low] >= landmark[high] and twin[low] + twin[high] <= landmark[low] + landmark[high]


def _others(rng: Random, world: World, kind: Kind, n: int) -> list[Kind]:
    """n different kinds, none of them `kind`."""
    return rng.sample([other for other in world.other_kinds if other != kind], n)


def _sides(rng: Random, world: World, wh: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a shape, their ratio at most 1.25."""
    low, high = _side_limits(world, wh)
    width = rng.randint(low, high)
    height = round(width * rng.uniform(0.8, 1.25))
    return width, min(max(height, low), high)


def _small_and_large(rng: Random, world: World, wh: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Two pairs of sides of which the second is clearly larger, both ways."""
    while True:
        small, large = _sides(rng, world, wh), _sides(rng, world, wh)
        if all(b >= SIZE_FACTOR * a for a, b in zip(small, large, strict=True)):
            return small, large


def _side_limits(world: World, wh: tuple[int, int]) -> tuple[int, int]:
    low, high = (round(share * min(wh)) for share in world.side_range)
    return low, high


def _placed(rng: Random, wh: tuple[int, int], shapes: list[tuple[Kind, tuple[int, int]]]) -> list[Thing] | None:
    """Put shapes at random places with a gap between them, or give up."""
    things: list[Thing] = []
    for kind, sides in shapes:
        boxes = (_anywhere(rng, wh, sides) for _ in range(_ATTEMPTS))
        box = next((b for b in boxes if not any(_close(b, thing.box) for thing in things)), None)
        if box is None:
            return None
        things.append(Thing(kind, box))
    return things


def _anywhere(rng: Random, wh: tuple[int, int], sides: tuple[int, int]) -> PixelBox:
    x1, y1 = rng.randint(0, wh[0] - sides[0]), rng.randint(0, wh[1] - sides[1])
    return x1, y1, x1 + sides[0], y1 + sides[1]


def _close(a: PixelBox, b: PixelBox) -> bool:
    apart_x = a[0] - b[2] >= _GAP_PX or b[0] - a[2] >= _GAP_PX
    apart_y = a[1] - b[3] >= _GAP_PX or b[1] - a[3] >= _GAP_PX
    return not (apart_x or apart_y)


def _write_record(folder: Path, split: str, number: int, seed: int, world: World) -> dict[str, Any]:
    scene = draw_scene(Random(f"{seed}/{split}/{number}"), world)
    image = f"images/{split}/{number:06d}.png"
    paint(scene).save(folder / image, compress_level=1)
    return {
        "id": number,
        "image": image,
        "conversations": [
            {"from": "human", "value": f"{IMAGE_TOKEN}{scene.expression}"},
            {"from": "gpt", "value": list(scene.things[0].box)},
        ],
        "scene": {
            "size": list(scene.wh),
            "asks_by": scene.asks_by,
            "objects": [{"colour": t.kind.colour, "shape": t.kind.shape, "box": list(t.box)} for t in scene.things],
        },
    }


def _loosened(line: dict[str, Any], seed: int) -> dict[str, Any]:
    question, gold = line["conversations"]
    box = loosen(tuple(gold["value"]), tuple(line["scene"]["size"]), Random(f"{seed}/loose/{line['id']}"))
    thought = question["value"].removeprefix(IMAGE_TOKEN)
    answer = f"<think>{thought}</think><answer>{list(box)}</answer>"
    return {**line, "conversations": [question, {"from": "gpt", "value": answer}]}


def _write_lines(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8", newline="\n")
    return path
