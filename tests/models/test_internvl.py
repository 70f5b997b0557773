"""Tiles and thumbnail of InternVL by hand, the tile budget, and its way to write boxes."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from testing_families import encode
from vlm_r1.errors import ModelError
from vlm_r1.models import load_adapter
from vlm_r1.parsing.boxes import parse_box
from vlm_r1.types import BoxFormat, ImageFrame, Parsed

# tiles of 56 px, at most 4: grids of 1×1, 1×2, 2×1, 1×3, 3×1, 1×4, 2×2, 4×1
GRIDS = [
    pytest.param((56, 56), (1, 1), id="square: 2×2 has its proportions too, but twice its area is less than 4 tiles"),
    pytest.param((112, 112), (2, 2), id="large square: 112² > 0.5 · 4 · 56²"),
    pytest.param((84, 56), (2, 1), id="1.5 is as near to 1 as to 2; 84 · 56 > 0.5 · 2 · 56²"),
    pytest.param((150, 60), (3, 1), id="2.5 is as near to 2 as to 3; 150 · 60 > 0.5 · 3 · 56²"),
    pytest.param((60, 150), (1, 3), id="0.4 is nearer to 1/3 than to 1/2"),
    pytest.param((900, 20), (4, 1), id="45 : 1"),
]


@pytest.mark.parametrize(("wh", "grid"), GRIDS)
def test_tiles_by_hand(wh, grid, family_adapter) -> None:
    adapter = family_adapter("internvl")
    columns, rows = grid
    encoded = encode(adapter, "<image>it", [Image.new("RGB", wh)])
    assert encoded.frames == (ImageFrame(wh, (columns * 56, rows * 56)),)
    tiles = columns * rows + (columns * rows > 1)
    assert encoded.vision["pixel_values"].shape == (tiles, 3, 56, 56)
    assert encoded.ids_L.count(adapter.placeholder_id) == 4 * tiles


def test_tiles_lie_in_reading_order_and_the_thumbnail_is_last(family_adapter) -> None:
    picture = Image.new("RGB", (112, 56), "red")
    picture.paste("blue", (56, 0, 112, 56))
    pixels = encode(family_adapter("internvl"), "<image>", [picture]).vision["pixel_values"]
    red, blue = pixels[:, 0], pixels[:, 2]
    assert (red[0] > blue[0]).all(), "left"
    assert (red[1] < blue[1]).all(), "right"
    assert (red[2, :, :24] > blue[2, :, :24]).all(), "the whole, its left"
    assert (red[2, :, 32:] < blue[2, :, 32:]).all(), "the whole, its right"


def test_the_budget_is_in_tiles_without_the_thumbnail(family_checkpoint) -> None:
    folder, area = family_checkpoint("internvl"), 56 * 56
    one = load_adapter(folder, max_pixels=2 * area - 1)
    assert [one.image_tokens(*wh) for wh in ((56, 56), (900, 20), (500, 500))] == [4, 4, 4]
    two = load_adapter(folder, min_pixels=area + 1, max_pixels=2 * area)
    assert [two.image_tokens(*wh) for wh in ((56, 56), (900, 20), (500, 500))] == [12, 12, 12], "2 tiles and the whole"
    encoded = encode(two, "<image>", [Image.new("RGB", (500, 500))])
    assert encoded.vision["pixel_values"].shape[0] == 3
    for wh in ((56, 56), (900, 20), (300, 500)):
        (frame,) = encode(two, "<image>", [Image.new("RGB", wh)]).frames
        assert area + 1 <= frame.input_wh[0] * frame.input_wh[1] <= 2 * area
    nine = load_adapter(folder, max_pixels=9 * area)
    assert nine.image_tokens(500, 500) == 4 * (9 + 1)


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param({"max_pixels": 56 * 56 - 1}, id="less than a tile"),
        pytest.param({"min_pixels": 5 * 56 * 56}, id="more than the processor's most"),
        pytest.param({"min_pixels": 3 * 56 * 56, "max_pixels": 2 * 56 * 56}, id="swapped"),
    ],
)
def test_an_impossible_budget_is_an_error(limits, family_checkpoint) -> None:
    with pytest.raises(ModelError, match="max_pixels at least 3136, one tile"):
        load_adapter(family_checkpoint("internvl"), **limits)


def test_boxes_as_the_family_writes_them_are_read(family_adapter) -> None:
    adapter = family_adapter("internvl")
    assert adapter.box_format is BoxFormat.NORM_1000
    written = "<ref>the circle</ref><box>[[100, 200, 300, 400]]</box><|im_end|>"
    text = adapter.decode(adapter.tokenize(written))
    assert parse_box(text) == Parsed((100.0, 200.0, 300.0, 400.0))
    tags = torch.tensor(adapter.tokenizer.convert_tokens_to_ids(["<ref>", "</ref>", "<box>", "</box>"]))
    assert not set(tags.tolist()) & set(adapter.banned_ids()), "these are the model's to write"
