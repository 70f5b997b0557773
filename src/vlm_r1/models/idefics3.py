"""Idefics3 and SmolVLM: the image is enlarged or shrunk to one longest edge and split into square tiles.

Each tile is named by its row and column in the text; the whole image, as large as one tile, follows. An image that fits
into one tile is only that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL.Image import Image
from transformers import PreTrainedModel

from vlm_r1.errors import ModelError
from vlm_r1.models.inline import InlineImages, Size
from vlm_r1.types import BoxFormat, EncodedPrompt

_LARGEST_EDGE = 4096
"""The largest longest edge in pixels: image processors of the family shrink larger images to it under any setting."""


class Idefics3(InlineImages):
    """Boxes are assumed to be 0–1000: neither model card nor paper names a format."""

    box_format = BoxFormat.NORM_1000
    vision_modules = ("model.vision_model", "model.connector")
    projector_modules = ("model.connector",)
    placeholder = "<image>"
    structure = (
        "<fake_token_around_image>",
        "<global-img>",
        "<video>",
        *(f"<row_{row}_col_{column}>" for row in range(1, 12) for column in range(1, 12)),
    )
    processor_class = "Idefics3Processor"
    settings = ("size", "max_image_size", "do_image_splitting")

    @property
    def tile(self) -> int:
        return self.image_processor.max_image_size["longest_edge"]

    @property
    def tile_tokens(self) -> int:
        config: Any = self.config
        return (config.vision_config.image_size // config.vision_config.patch_size // config.scale_factor) ** 2

    def grid(self, width: int, height: int) -> tuple[int, int]:
        """Return (columns, rows) of tiles of an image; an image of (1, 1) is not split."""
        if not self.image_processor.do_image_splitting:
            return (1, 1)
        width, height = _shrunk(*_resized(width, height, self.image_processor.size["longest_edge"]))
        return _tiles(width, height, self.tile)

    def seen_sizes(self, sizes_wh: Sequence[Size]) -> list[Size]:
        grids = (self.grid(*size_wh) for size_wh in sizes_wh)
        return [(columns * self.tile, rows * self.tile) for columns, rows in grids]

    def expansions(self, sizes_wh: Sequence[Size]) -> list[str]:
        fake, tokens = "<fake_token_around_image>", self.placeholder * self.tile_tokens
        whole = f"{fake}<global-img>{tokens}{fake}"
        expansions: list[str] = []
        for columns, rows in (self.grid(*size_wh) for size_wh in sizes_wh):
            lines = [
                "".join(f"{fake}<row_{row + 1}_col_{column + 1}>{tokens}" for column in range(columns)) + "\n"
                for row in range(rows)
            ]
            expansions.append(whole if columns == rows == 1 else f"{''.join(lines)}\n{whole}")
        return expansions

    def pixels(self, images: Sequence[Image]) -> Mapping[str, torch.Tensor]:
        return dict(self.image_processor(images=[list(images)], return_tensors="pt"))

    def limit_pixels(self, min_pixels: int | None, max_pixels: int | None) -> None:
        """Set the longest edge so that a square image of it, and thus any image, has at most `max_pixels` pixels.

        Raises:
            ModelError: max_pixels is less than one tile, or min_pixels is given: every image is enlarged anyway.
        """
        if min_pixels is not None:
            raise ModelError(
                "min_pixels has no effect on this family, which resizes every image to the same longest edge: set "
                "max_pixels alone"
            )
        tiles = math.isqrt(max_pixels or 0) // self.tile
        if tiles < 1:
            raise ModelError(f"max_pixels {max_pixels}: wanted at least {self.tile**2}, one tile")
        self.image_processor.size = {"longest_edge": tiles * self.tile}

    def blank(self, prompt: EncodedPrompt) -> EncodedPrompt:
        # these models take an image of exact zeros for padding and drop it
        grey = torch.full_like(prompt.vision["pixel_values"], 1 / 255)
        return replace(prompt, vision={**prompt.vision, "pixel_values": grey}, features=None)

    def encode_images(self, model: PreTrainedModel, prompts: Sequence[EncodedPrompt]) -> Sequence[torch.Tensor]:
        # (1, tiles of one prompt, …) → (1, all tiles, …): all tiles are equally large
        vision = {
            name: torch.cat([prompt.vision[name] for prompt in prompts], 1).to(model.device)
            for name in prompts[0].vision
        }
        features: Any = self.unwrap(model).get_image_features(**vision, return_dict=True)
        (pooled,) = features.pooler_output
        return self.split_features(pooled, prompts)

    def processor_settings(self) -> Mapping[str, Any]:
        return {"image_seq_len": self.tile_tokens}


class SmolVLM(Idefics3):
    """As Idefics3, with another language model."""

    processor_class = "SmolVLMProcessor"


def _resized(width: int, height: int, longest: int) -> Size:
    """The first step of the family's image processors: resize to the longest edge; the other edge becomes even."""
    ratio = width / height
    if width >= height:
        other = int(longest / ratio)
        return longest, max(other + other % 2, 1)
    other = int(longest * ratio)
    return max(other + other % 2, 1), longest


def _shrunk(width: int, height: int) -> Size:
    """The second step, for settings above `_LARGEST_EDGE`."""
    ratio = width / height
    if width >= height and width > _LARGEST_EDGE:
        return _LARGEST_EDGE, max(int(_LARGEST_EDGE / ratio), 1)
    if height > width and height > _LARGEST_EDGE:
        return max(int(_LARGEST_EDGE * ratio), 1), _LARGEST_EDGE
    return width, height


def _tiles(width: int, height: int, tile: int) -> tuple[int, int]:
    """The third step, (columns, rows): enough tiles to cover the longer side, and in proportion for the other side."""
    ratio = width / height
    if width >= height:
        columns = math.ceil(width / tile)
        return columns, math.ceil(int(columns * tile / ratio) / tile)
    rows = math.ceil(height / tile)
    return math.ceil(int(rows * tile * ratio) / tile), rows
