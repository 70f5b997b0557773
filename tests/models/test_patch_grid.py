"""Qwen-VL and GLM-V: native resolution and pixel limits, by the formulas of their papers.

What they share with all families is in test_families.py.
"""

from __future__ import annotations

from math import ceil, floor, sqrt
from typing import Any

import pytest
import torch

from testing_families import encode, picture_of, random_sizes
from vlm_r1.errors import DataError, ModelError
from vlm_r1.models import ADAPTERS, load_adapter
from vlm_r1.models.patch_grid import PatchGrid
from vlm_r1.types import ImageFrame

FAMILIES = sorted(family for family, adapter in ADAPTERS.items() if issubclass(adapter, PatchGrid))
every_family = pytest.mark.parametrize("family", FAMILIES)


def smart_resize(width: int, height: int, factor: int, smallest: int, largest: int) -> tuple[int, int]:
    """qwen-vl-utils' formula, as plainly as can be: (width, height) of the processed image."""
    wide, high = (max(factor, round(side / factor) * factor) for side in (width, height))
    if wide * high > largest:
        shrink = sqrt(width * height / largest)
        wide, high = (max(factor, floor(side / shrink / factor) * factor) for side in (width, height))
    elif wide * high < smallest:
        grow = sqrt(smallest / (width * height))
        wide, high = (ceil(side * grow / factor) * factor for side in (width, height))
    return wide, high


@every_family
def test_frames_are_those_of_smart_resize_and_of_the_processor(family: str, family_adapter) -> None:
    adapter = family_adapter(family)
    # a side under half a factor, which qwen-vl-utils rounds up and the processors down to nothing, is in the next test
    for width, height in [(56, 56), (500, 31), *random_sizes(adapter.factor, 12)]:
        encoded = encode(adapter, "<image>what is it", [picture_of(width, height)])
        limits = [adapter.image_processor.size[edge] for edge in ("shortest_edge", "longest_edge")]
        frames = 2 if family.startswith("glm") else 1
        expected = smart_resize(width, height, adapter.factor, *(limit // frames for limit in limits))
        assert encoded.frames == (ImageFrame((width, height), expected),)
        tokens = expected[0] * expected[1] // adapter.factor**2
        assert adapter.image_tokens(width, height) == encoded.ids_L.count(adapter.placeholder_id) == tokens


@every_family
def test_the_picture_as_seen_makes_the_same_patches(family: str, family_adapter) -> None:
    adapter = family_adapter(family)
    for wh in [(56, 56), (500, 131), *random_sizes(adapter.factor, 8)]:
        encoded = encode(adapter, "<image>what is it", [picture := picture_of(*wh)])
        (frame,) = encoded.frames
        seen = adapter.as_seen(picture, frame)
        again = encode(adapter, "<image>what is it", [seen])
        assert (seen.size, again.frames[0].input_wh) == (frame.input_wh, frame.input_wh)
        assert torch.equal(again.vision["pixel_values"], encoded.vision["pixel_values"])


@every_family
def test_a_token_stands_for_a_square_of_the_frame(family: str, family_adapter) -> None:
    adapter = family_adapter(family)
    for width, height in [(3, 40), (52, 52), (200, 31), (31, 200), *random_sizes(4, 4)]:
        encoded = encode(adapter, "<image>what is it", [picture_of(width, height)])
        (frame,) = encoded.frames
        tokens = encoded.ids_L.count(adapter.placeholder_id)
        assert frame.input_wh[0] * frame.input_wh[1] == tokens * adapter.factor**2


@every_family
def test_pixel_limits(family: str, family_checkpoint) -> None:
    adapter: Any = load_adapter(family_checkpoint(family), min_pixels=1, max_pixels=10_000)
    for wh in [(500, 400), (200, 600), (600, 600)]:
        assert adapter.image_tokens(*wh) * adapter.factor**2 <= 10_000
        encoded = encode(adapter, "<image>", [picture_of(*wh)])
        assert encoded.ids_L.count(adapter.placeholder_id) == adapter.image_tokens(*wh)
    large = load_adapter(family_checkpoint(family), min_pixels=40_000)
    assert large.image_tokens(56, 56) * adapter.factor**2 >= 40_000
    with pytest.raises(ModelError, match=f"at least {adapter.factor**2}, one image token"):
        adapter.limit_pixels(1, adapter.factor**2 - 1)
    with pytest.raises(ModelError, match="wanted min_pixels <= max_pixels"):
        adapter.limit_pixels(20_000, 10_000)


@every_family
def test_an_image_as_thin_as_no_resize_takes_is_an_error(family: str, family_adapter) -> None:
    with pytest.raises(DataError, match=r"an image of 9000 x 30 pixels: .*200.*; crop it or drop the record"):
        encode(family_adapter(family), "<image>what", [picture_of(9000, 30)])
