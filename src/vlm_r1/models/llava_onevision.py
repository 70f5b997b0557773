"""LLaVA-OneVision: each image has a base view; the only image of a prompt also has tiles that follow its proportions.

The image is padded to the canvas, among those offered, that keeps most of its resolution. The canvas is cut into tiles,
and features of padding are dropped. Each line of features ends with a learned newline. If there are more features than
nine tiles have, they are interpolated down. Several images in a prompt have base views only.
"""

# pyright: standard

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL.Image import Image
from torch.nn.functional import pad
from transformers import PreTrainedModel

from vlm_r1.errors import ModelError
from vlm_r1.models.inline import InlineImages, Size
from vlm_r1.types import BoxFormat, EncodedPrompt


class LlavaOnevision(InlineImages):
    """Boxes are fractions of width and height, as in LLaVA's data, on which this family is trained too."""

    box_format = BoxFormat.NORM_1
    vision_modules = ("model.vision_tower", "model.multi_modal_projector", "model.image_newline")
    projector_modules = ("model.multi_modal_projector", "model.image_newline")
    placeholder = "<image>"
    structure = ("<video>",)
    processor_class = "LlavaOnevisionProcessor"
    settings = ("size", "image_grid_pinpoints")

    @property
    def tile(self) -> int:
        return self.image_processor.size["height"]

    @property
    def side(self) -> int:
        """Number of features along each side of one view, e.g. 27."""
        config: Any = self.config
        return config.vision_config.image_size // config.vision_config.patch_size

    def canvas(self, width: int, height: int) -> Size:
        """Return (width, height) in pixels of the canvas of the only image of a prompt."""
        from transformers.image_processing_utils import select_best_resolution

        best = select_best_resolution((height, width), self.image_processor.image_grid_pinpoints)
        return best[1], best[0]

    def seen_sizes(self, sizes_wh: Sequence[Size]) -> list[Size]:
        if len(sizes_wh) == 1:
            return [_fitted(*sizes_wh[0], *self.canvas(*sizes_wh[0]))]
        return [_fitted(*size_wh, self.tile, self.tile) for size_wh in sizes_wh]

    def expansions(self, sizes_wh: Sequence[Size]) -> list[str]:
        view = self.side**2
        if len(sizes_wh) > 1:
            return [self.placeholder * (view + 1)] * len(sizes_wh)
        lines, length = self._lines(*sizes_wh[0])
        return [self.placeholder * (view + lines * (length + 1))]

    def pixels(self, images: Sequence[Image]) -> Mapping[str, torch.Tensor]:
        # nested, because the combined processor passes the images of one prompt so
        seen = self.image_processor(images=[list(images)], return_tensors="pt")
        return {name: seen[name] for name in ("pixel_values", "image_sizes", "batch_num_images")}

    def limit_pixels(self, min_pixels: int | None, max_pixels: int | None) -> None:
        """Keep only canvases whose area is within the limits."""
        offered = self.image_processor.image_grid_pinpoints
        areas = [height * width for height, width in offered]
        least, most = min_pixels or 0, max(areas) if max_pixels is None else max_pixels
        kept = [list(one) for one, area in zip(offered, areas, strict=True) if least <= area <= most]
        if not kept:
            raise ModelError(
                f"min_pixels {min_pixels} and max_pixels {max_pixels} leave no canvas: wanted limits that hold one of "
                f"{', '.join(str(area) for area in sorted(set(areas)))} pixels"
            )
        self.image_processor.image_grid_pinpoints = kept

    def prepare(self, model: Any) -> None:
        # the model finds the features of padding from the same list
        model.config.image_grid_pinpoints = self.image_processor.image_grid_pinpoints
        # features are taken before this layer, so it never gets a gradient, and processes would wait for one
        model.model.vision_tower.post_layernorm.requires_grad_(False)

    def pooled(self, images: Sequence[torch.Tensor]) -> Any:
        return tuple(images)

    def encode_images(self, model: PreTrainedModel, prompts: Sequence[EncodedPrompt]) -> Sequence[torch.Tensor]:
        vision = [prompt.vision for prompt in prompts]
        longest = max(own["pixel_values"].shape[1] for own in vision)
        tiles = [pad(own["pixel_values"], (0, 0) * 3 + (0, longest - own["pixel_values"].shape[1])) for own in vision]
        sizes, counts = (torch.cat([own[name] for own in vision]) for name in ("image_sizes", "batch_num_images"))
        features: Any = self.unwrap(model).get_image_features(
            torch.cat(tiles).to(model.device, model.dtype),
            sizes.to(model.device),
            batch_num_images=counts.to(model.device),
            return_dict=True,
        )
        return features.pooler_output

    def processor_settings(self) -> Mapping[str, Any]:
        config: Any = self.config
        return {
            "num_image_tokens": self.side**2,
            "vision_feature_select_strategy": config.vision_feature_select_strategy,
            "vision_aspect_ratio": config.vision_aspect_ratio,
        }

    def _lines(self, width: int, height: int) -> tuple[int, int]:
        """Return (lines, features in a line) that remain of the tiles of an image of that size."""
        columns, lines = (edge // self.tile * self.side for edge in self.canvas(width, height))
        if width / height > columns / lines:
            lines -= 2 * ((lines - int(round(height * (columns / width), 7))) // 2)
        else:
            columns -= 2 * ((columns - int(round(width * (lines / height), 7))) // 2)
        config: Any = self.config
        most = int(config.vision_aspect_ratio.removeprefix("anyres_max_"))
        ratio = math.sqrt(columns * lines / (most * self.side**2))
        return (int(lines // ratio), int(columns // ratio)) if ratio > 1.1 else (lines, columns)


def _fitted(width: int, height: int, canvas_width: int, canvas_height: int) -> Size:
    """Return the largest size of the same proportions that fits the canvas."""
    across, down = canvas_width / width, canvas_height / height
    if across < down:
        return canvas_width, min(math.ceil(height * across), canvas_height)
    return min(math.ceil(width * down), canvas_width), canvas_height
