"""The tiles of Idefics3 and SmolVLM by hand and by their image processors, and the tile budget."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor

from testing_families import encode, picture_of
from vlm_r1.errors import ModelError
from vlm_r1.models import load_adapter
from vlm_r1.types import ImageFrame

# tiles of 56 px, the longest edge 112
GRIDS = [
    pytest.param((10, 10), (2, 2), id="small ones are enlarged: 112 × 112"),
    pytest.param((300, 200), (2, 2), id="112 × 74, covered by 2 × 2"),
    pytest.param((300, 140), (2, 1), id="112 × 52, covered by 2 × 1"),
    pytest.param((300, 152), (2, 1), id="112 × 56.7 is cut to 56"),
    pytest.param((300, 153), (2, 2), id="112 × 57.1 is cut to 57 and made even"),
    pytest.param((140, 300), (1, 2), id="upright"),
    pytest.param((900, 3), (2, 1), id="300 : 1"),
]


@pytest.mark.parametrize(("wh", "grid"), GRIDS)
@pytest.mark.parametrize("family", ["idefics3", "smolvlm"])
def test_tiles_by_hand(family: str, wh, grid, family_adapter) -> None:
    adapter = family_adapter(family)
    columns, rows = grid
    encoded = encode(adapter, "<image>it", [Image.new("RGB", wh)])
    assert encoded.frames == (ImageFrame(wh, (columns * 56, rows * 56)),)
    assert encoded.vision["pixel_values"].shape == (1, columns * rows + 1, 3, 56, 56)
    assert encoded.ids_L.count(adapter.placeholder_id) == 4 * (columns * rows + 1)


def test_the_text_of_tiles(family_adapter) -> None:
    (text,) = family_adapter("smolvlm").expansions([(300, 140)])
    tile = "<image>" * 4
    assert text == (
        f"<fake_token_around_image><row_1_col_1>{tile}<fake_token_around_image><row_1_col_2>{tile}\n"
        f"\n<fake_token_around_image><global-img>{tile}<fake_token_around_image>"
    )


@pytest.mark.parametrize("longest", [28, 56, 57, 200, 364])
def test_grids_are_those_of_the_image_processor(longest: int, family_checkpoint) -> None:
    adapter: Any = load_adapter(family_checkpoint("idefics3"))
    adapter.image_processor.size = {"longest_edge": longest}
    sides = random.Random(longest)
    sizes = [(int(4 * 100 ** sides.random()), int(4 * 100 ** sides.random())) for _ in range(12)]
    seen = adapter.image_processor(
        images=[[Image.new("RGB", wh)] for wh in sizes], return_row_col_info=True, return_tensors="pt"
    )
    for wh, rows, columns in zip(sizes, seen["rows"], seen["cols"], strict=True):
        expected = (int(columns[0]), int(rows[0])) if int(rows[0]) else (1, 1)
        assert adapter.grid(*wh) == expected, wh


def test_beyond_4096_pixels_the_longest_edge_is_cut(family_checkpoint) -> None:
    adapter: Any = load_adapter(family_checkpoint("idefics3"))
    adapter.image_processor.size = {"longest_edge": 6000}
    adapter.image_processor.max_image_size = {"longest_edge": 1024}
    picture = Image.new("RGB", (600, 12))
    seen = adapter.image_processor(images=[[picture]], return_row_col_info=True, return_tensors="pt")
    assert adapter.grid(600, 12) == (int(seen["cols"][0][0]), int(seen["rows"][0][0])) == (4, 1)


def test_without_splitting_an_image_is_one_tile(family_checkpoint) -> None:
    adapter = load_adapter(family_checkpoint("smolvlm"))
    adapter.image_processor.do_image_splitting = False
    encoded = encode(adapter, "<image>", [picture_of(300, 140)])
    assert encoded.vision["pixel_values"].shape == (1, 1, 3, 56, 56)
    assert encoded.ids_L.count(adapter.placeholder_id) == 4
    assert "<row_" not in adapter.tokenizer.decode(encoded.ids_L)


@pytest.mark.parametrize("tiles", [1, 2, 3])
def test_the_budget_bounds_every_image(tiles: int, family_checkpoint, tmp_path) -> None:
    adapter = load_adapter(family_checkpoint("idefics3"), max_pixels=(tiles * 56 + 55) ** 2)
    for wh in [(500, 500), (500, 90), (3, 300), (8, 8)]:
        (frame,) = encode(adapter, "<image>", [picture_of(*wh)]).frames
        assert max(frame.input_wh) == tiles * 56
        assert frame.input_wh[0] * frame.input_wh[1] <= (tiles * 56) ** 2
    adapter.save(tmp_path)
    assert AutoImageProcessor.from_pretrained(tmp_path).size["longest_edge"] == tiles * 56


def test_an_impossible_budget_is_an_error(family_checkpoint) -> None:
    with pytest.raises(ModelError, match="wanted at least 3136, one tile"):
        load_adapter(family_checkpoint("idefics3"), max_pixels=3135)
    with pytest.raises(ModelError, match="min_pixels has no effect on this family"):
        load_adapter(family_checkpoint("idefics3"), min_pixels=100, max_pixels=10_000)


def test_a_blank_image_is_not_taken_for_padding(family_adapter, family_model64) -> None:
    adapter, model = family_adapter("idefics3"), family_model64("idefics3")
    prompt = encode(adapter, "<image>", [picture_of(56, 56)])
    (features,) = adapter.encode_images(model, [adapter.blank(prompt)])
    assert len(features) == prompt.ids_L.count(adapter.placeholder_id)
    zeros = {**prompt.vision, "pixel_values": torch.zeros_like(prompt.vision["pixel_values"])}
    with pytest.raises(RuntimeError):  # the stock model drops them
        adapter.encode_images(model, [replace(prompt, vision=zeros)])
