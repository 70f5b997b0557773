"""Gemma 3: each image is a square of 896 pixels and 256 tokens, which attend to each other in both directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL.Image import Image
from transformers import PreTrainedModel

from vlm_r1.errors import ModelError
from vlm_r1.models.inline import InlineImages, Size
from vlm_r1.types import BoxFormat, EncodedPrompt


class Gemma3(InlineImages):
    """Boxes are assumed to be 0–1000 with y first, as in Google's other models; Gemma 3's report names no format."""

    box_format = BoxFormat.NORM_1000_YX
    vision_modules = ("model.vision_tower", "model.multi_modal_projector")
    projector_modules = ("model.multi_modal_projector",)
    placeholder = "<image_soft_token>"
    template_image_token = "<start_of_image>"
    structure = ("<end_of_image>",)
    processor_class = "Gemma3Processor"
    settings = ("size", "do_pan_and_scan")

    @property
    def tile(self) -> int:
        return self.image_processor.size["height"]

    def seen_sizes(self, sizes_wh: Sequence[Size]) -> list[Size]:
        return [(self.tile, self.tile)] * len(sizes_wh)

    def expansions(self, sizes_wh: Sequence[Size]) -> list[str]:
        config: Any = self.config
        soft_tokens = self.placeholder * config.mm_tokens_per_image
        return [f"\n\n<start_of_image>{soft_tokens}<end_of_image>\n\n"] * len(sizes_wh)

    def pixels(self, images: Sequence[Image]) -> Mapping[str, torch.Tensor]:
        # pan and scan, which adds crops of long images, is off in the combined processor too
        seen = self.image_processor(images=list(images), do_pan_and_scan=False, return_tensors="pt")
        return {"pixel_values": seen["pixel_values"]}

    def limit_pixels(self, min_pixels: int | None, max_pixels: int | None) -> None:
        """Refuse: this family sees every image at the same size.

        Raises:
            ModelError: always.
        """
        raise ModelError(
            f"min_pixels and max_pixels have no effect on Gemma 3, which sees every image as {self.tile} x {self.tile} "
            f"pixels in {self.image_tokens(1, 1)} tokens: remove them"
        )

    def token_types(self, ids_NL: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"token_type_ids": (ids_NL == self.placeholder_id).long()}

    def encode_images(self, model: PreTrainedModel, prompts: Sequence[EncodedPrompt]) -> Sequence[torch.Tensor]:
        pixel_values = torch.cat([prompt.vision["pixel_values"] for prompt in prompts]).to(model.device, model.dtype)
        features: Any = self.unwrap(model).get_image_features(pixel_values, return_dict=True)
        return self.split_features(features.pooler_output, prompts)

    def processor_settings(self) -> Mapping[str, Any]:
        config: Any = self.config
        return {"image_seq_length": config.mm_tokens_per_image}
