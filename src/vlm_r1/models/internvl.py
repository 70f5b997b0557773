"""InternVL 2.5, 3 and 3.5 in transformers' own form (`…-hf` checkpoints).

An image is resized to a grid of square tiles, whose proportions come nearest to its own; if there are several, a
thumbnail of the whole image follows. Each tile becomes 256 tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL.Image import Image
from transformers import PreTrainedModel

from vlm_r1.errors import ModelError
from vlm_r1.models.inline import InlineImages, Size
from vlm_r1.types import BoxFormat, EncodedPrompt


class InternVL(InlineImages):
    """Boxes are 0–1000 of width and height, `<box>[[x1, y1, x2, y2]]</box>` (InternVL's documentation of chat data)."""

    box_format = BoxFormat.NORM_1000
    vision_modules = ("model.vision_tower", "model.multi_modal_projector")
    projector_modules = ("model.multi_modal_projector",)
    placeholder = "<IMG_CONTEXT>"
    structure = ("<img>", "</img>", "<video>")
    processor_class = "InternVLProcessor"
    settings = ("size", "min_patches", "max_patches")

    @property
    def tile(self) -> int:
        return self.image_processor.size["height"]

    @property
    def tile_tokens(self) -> int:
        config: Any = self.config
        patches = config.vision_config.image_size[0] // config.vision_config.patch_size[0]
        return int(patches * config.downsample_ratio) ** 2

    def grid(self, width: int, height: int) -> tuple[int, int]:
        """Return (columns, rows) of tiles of an image."""
        from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

        limits = (self.image_processor.min_patches, self.image_processor.max_patches)
        return get_optimal_tiled_canvas((height, width), (self.tile, self.tile), *limits)

    def seen_sizes(self, sizes_wh: Sequence[Size]) -> list[Size]:
        grids = (self.grid(*size_wh) for size_wh in sizes_wh)
        return [(columns * self.tile, rows * self.tile) for columns, rows in grids]

    def expansions(self, sizes_wh: Sequence[Size]) -> list[str]:
        tiles = [columns * rows for columns, rows in (self.grid(*size_wh) for size_wh in sizes_wh)]
        with_thumbnail = [count + 1 if count > 1 else 1 for count in tiles]
        return [f"<img>{self.placeholder * (self.tile_tokens * count)}</img>" for count in with_thumbnail]

    def pixels(self, images: Sequence[Image]) -> Mapping[str, torch.Tensor]:
        # the combined processor turns tiling on even if the saved image processor has it off
        seen = self.image_processor(images=list(images), crop_to_patches=True, return_tensors="pt")
        return {"pixel_values": seen["pixel_values"]}

    def limit_pixels(self, min_pixels: int | None, max_pixels: int | None) -> None:
        """Limit the number of tiles of an image; their area, without the thumbnail, is its area in pixels."""
        processor = self.image_processor
        tile = self.tile**2
        least = processor.min_patches if min_pixels is None else max(1, -(-min_pixels // tile))
        most = processor.max_patches if max_pixels is None else max_pixels // tile
        if most < least:
            raise ModelError(
                f"min_pixels {min_pixels} and max_pixels {max_pixels} are {least} to {most} tiles: wanted min_pixels "
                f"<= max_pixels, and max_pixels at least {tile}, one tile"
            )
        processor.min_patches, processor.max_patches = least, most

    def encode_images(self, model: PreTrainedModel, prompts: Sequence[EncodedPrompt]) -> Sequence[torch.Tensor]:
        pixel_values = torch.cat([prompt.vision["pixel_values"] for prompt in prompts]).to(model.device)
        features: Any = self.unwrap(model).get_image_features(pixel_values, return_dict=True)
        return self.split_features(features.pooler_output, prompts)

    def processor_settings(self) -> Mapping[str, Any]:
        return {"image_seq_length": self.tile_tokens}
