"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL and Qwen3.5: one `<|image_pad|>` per merged patch."""

# pyright: standard

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from vlm_r1.models.patch_grid import PatchGrid
from vlm_r1.types import BoxFormat, EncodedPrompt


class Qwen2VL(PatchGrid):
    """Coordinates from 0 to 1000 (Qwen2-VL technical report, section 2.2)."""

    box_format = BoxFormat.NORM_1000
    placeholder = "<|image_pad|>"
    control_tokens = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


class Qwen25VL(Qwen2VL):
    """Absolute coordinates of the image as resized by `smart_resize` (Qwen2.5-VL technical report, section 2.1)."""

    box_format = BoxFormat.INPUT_PIXELS


class Qwen35(Qwen2VL):
    """Qwen3.5, dense and mixture of experts: coordinates from 0 to 1000; most layers are linear attention."""


class Qwen3VL(Qwen2VL):
    """Qwen3-VL, dense and mixture of experts: coordinates from 0 to 1000; deep-stacked image features.

    The vision tower also returns features of some inner layers; the first layers of the language model add them to
    their own. The features of an image are those of the last and of these layers, concatenated: (tokens, (1 + inner
    layers) · H).
    """

    projector_modules = ("model.visual.merger", "model.visual.deepstack_merger_list")
    vision_taps = "deepstack_visual_indexes"

    def encode_images(self, model: PreTrainedModel, prompts: Sequence[EncodedPrompt]) -> Sequence[torch.Tensor]:
        output = self.vision_output(model, prompts)
        return [torch.cat(levels, -1) for levels in zip(output.pooler_output, *output.deepstack_features, strict=True)]

    def as_output(self, images: tuple[torch.Tensor, ...]) -> Any:
        from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

        width = self.config.get_text_config().hidden_size
        levels: Any = zip(*(image.split(width, -1) for image in images), strict=True)
        last, *inner = levels
        return BaseModelOutputWithDeepstackFeatures(pooler_output=last, deepstack_features=inner)
