"""The base of Qwen-VL and GLM-V: an image is a grid of patches at its own resolution; positions have three axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL.Image import Image
from torch import nn
from torch.nn.functional import linear
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vlm_r1.errors import DataError, ModelError
from vlm_r1.models.adapter import Adapter
from vlm_r1.types import EncodedPrompt, ImageFrame, Prompt


class PatchGrid(Adapter):
    """An image is resized to multiples of a factor, cut into patches, and square blocks of them merged into tokens.

    The factor is patch size times merge size: 28 or 32 pixels. One token represents a square of that side. The resize
    (`smart_resize` of qwen-vl-utils) rounds both sides to multiples and keeps the area within the processor's limits.
    """

    vision_modules = ("model.visual",)
    projector_modules = ("model.visual.merger",)

    @property
    def factor(self) -> int:
        """Side in pixels of the square that one image token represents, e.g. 28."""
        return self.image_processor.patch_size * self.image_processor.merge_size

    def check(self, source: str) -> None:
        super().check(source)
        vision_config: Any = self.config.vision_config  # type: ignore[attr-defined]
        expected = {"patch_size": vision_config.patch_size, "merge_size": vision_config.spatial_merge_size}
        grid = hasattr(self.image_processor, "get_number_of_image_patches")
        got = {name: getattr(self.image_processor, name, None) for name in expected} if grid else "no grid"
        if got != expected:
            raise ModelError(
                f"{source}: {type(self.image_processor).__name__} has {got}, the model {expected}: it belongs to "
                "another model; copy preprocessor_config.json from the original checkpoint"
            )

    def encode(self, prompt: Prompt, images: Sequence[Image]) -> EncodedPrompt:
        text = self.render(prompt)
        if not prompt.images:
            return EncodedPrompt(self.tokenize(text), {}, (), text)
        for image in images:
            self.image_tokens(*image.size)  # refuses what the processor would refuse, and names the size
        vision = self.image_processor(images=list(images), return_tensors="pt")
        pixel_values, grid_thw = vision["pixel_values"], vision["image_grid_thw"]
        patch, merge = self.image_processor.patch_size, self.image_processor.merge_size
        expanded = text
        for tokens in (grid_thw.prod(-1) // merge**2).tolist():
            expanded = expanded.replace(self.placeholder, "\0" * tokens, 1)
        frames = tuple(
            ImageFrame(image.size, (int(width) * patch, int(height) * patch))
            for image, (_, height, width) in zip(images, grid_thw.tolist(), strict=True)
        )
        ids_L = self.tokenize(expanded.replace("\0", self.placeholder))
        return EncodedPrompt(ids_L, {"pixel_values": pixel_values, "image_grid_thw": grid_thw}, frames, text)

    def as_seen(self, image: Image, frame: ImageFrame) -> Image:
        return image.resize(frame.input_wh, self.image_processor.resample)

    def image_tokens(self, width: int, height: int) -> int:
        """See `Adapter`.

        Raises:
            DataError: the image is too narrow for the family's resize.
        """
        try:
            patches = self.image_processor.get_number_of_image_patches(height, width, {})
        except ValueError as error:
            raise DataError(f"an image of {width} x {height} pixels: {error}; crop it or drop the record") from error
        return patches // self.image_processor.merge_size**2

    def limit_pixels(self, min_pixels: int | None, max_pixels: int | None) -> None:
        size, frames = self.image_processor.size, self._frames_per_image
        smallest = size["shortest_edge"] if min_pixels is None else min_pixels * frames
        largest = size["longest_edge"] if max_pixels is None else max_pixels * frames
        if largest < self.factor**2 * frames or smallest > largest:
            raise ModelError(
                f"min_pixels {smallest // frames} and max_pixels {largest // frames}: wanted min_pixels <= max_pixels, "
                f"and max_pixels at least {self.factor**2}, one image token"
            )
        self.image_processor.size = {"shortest_edge": smallest, "longest_edge": largest}

    @property
    def _frames_per_image(self) -> int:
        """How many frames of a video the processor counts for one image when it compares with its limits of area."""
        return 1

    def encode_images(self, model: PreTrainedModel, prompts: Sequence[EncodedPrompt]) -> Sequence[torch.Tensor]:
        return self.vision_output(model, prompts).pooler_output

    def vision_output(self, model: PreTrainedModel, prompts: Sequence[EncodedPrompt]) -> Any:
        """Return the output of the stock model's `get_image_features` for all images; each prompt has images."""
        pixel_values = torch.cat([prompt.vision["pixel_values"] for prompt in prompts]).to(model.device)
        grid_thw = torch.cat([prompt.vision["image_grid_thw"] for prompt in prompts]).to(model.device)
        return self.unwrap(model).get_image_features(pixel_values, grid_thw, return_dict=True)

    def vision_arguments(self, features: Sequence[Sequence[torch.Tensor]]) -> dict[str, Any]:
        images = tuple(image for own in features for image in own)
        return {"mm_encoder_outputs": {"image": self.as_output(images)}} if images else {}

    def as_output(self, images: tuple[torch.Tensor, ...]) -> Any:
        """Return the features of some images as the stock forward wants them: the inverse of `encode_images`."""
        return BaseModelOutputWithPooling(pooler_output=images)  # type: ignore[arg-type]

    def prepare(self, model: Any) -> None:
        embedding = model.model.visual.patch_embed
        embedding.proj = PatchProjection.like(embedding.proj)

    def positions(self, model: PreTrainedModel, prompts: Sequence[EncodedPrompt]) -> list[torch.Tensor]:
        rope_index = self.unwrap(model).model.get_rope_index
        positions: list[torch.Tensor] = []
        for prompt in prompts:
            ids_1L = torch.tensor([prompt.ids_L])
            grid_thw = prompt.vision.get("image_grid_thw")
            position_ids, _ = rope_index(ids_1L, (ids_1L == self.placeholder_id).int(), image_grid_thw=grid_thw)
            positions.append(position_ids[:, 0].to(model.device))
        return positions


class PatchProjection(nn.Conv3d):
    """A convolution of patches that do not overlap is a matrix product; computed so, it is ten times faster on a CPU.

    It has the same parameters under the same names, so checkpoints do not change.
    """

    @classmethod
    def like(cls, convolution: nn.Conv3d) -> PatchProjection:
        """Return a projection that shares the convolution's parameters."""
        channels = (convolution.in_channels, convolution.out_channels)
        projection = cls(*channels, convolution.kernel_size, convolution.stride, device="meta")  # type: ignore[arg-type]
        projection.weight, projection.bias = convolution.weight, convolution.bias
        return projection

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(patches, channels, time, height, width) of one patch each → (patches, out, 1, 1, 1)."""
        return linear(input.flatten(1), self.weight.flatten(1), self.bias)[:, :, None, None, None]
