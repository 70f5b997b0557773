"""Adapters of Qwen2.5-VL with one fault each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL.Image import Image

from vlm_r1.models.qwen_vl import Qwen25VL
from vlm_r1.types import EncodedPrompt, ImageFrame, Prompt


class SwapsSides(Qwen25VL):
    """Takes height for width of the image that the model sees."""

    def encode(self, prompt: Prompt, images: Sequence[Image]) -> EncodedPrompt:
        encoded = super().encode(prompt, images)
        return replace(encoded, frames=tuple(ImageFrame(f.original_wh, f.input_wh[::-1]) for f in encoded.frames))


class LosesAToken(Qwen25VL):
    """Writes one placeholder too few."""

    def encode(self, prompt: Prompt, images: Sequence[Image]) -> EncodedPrompt:
        encoded = super().encode(prompt, images)
        if not images:
            return encoded
        place = encoded.ids_L.index(self.placeholder_id)
        return replace(encoded, ids_L=encoded.ids_L[:place] + encoded.ids_L[place + 1 :])


class CountsPatches(Qwen25VL):
    """Forgets that four patches make one token."""

    def image_tokens(self, width: int, height: int) -> int:
        return super().image_tokens(width, height) * 4


class FlatPositions(Qwen25VL):
    """Numbers image tokens like words."""

    def positions(self, model: Any, prompts: Sequence[EncodedPrompt]) -> list[torch.Tensor]:
        return [torch.arange(len(prompt.ids_L), device=model.device).expand(3, -1) for prompt in prompts]


class DropsFeatures(Qwen25VL):
    """Leaves the placeholders' own embeddings in their places."""

    def vision_arguments(self, features: Sequence[Sequence[torch.Tensor]]) -> dict[str, Any]:
        return {}


class ShufflesImages(Qwen25VL):
    """Hands out the features of a batch from the last image on."""

    def encode_images(self, model: Any, prompts: Sequence[EncodedPrompt]) -> Sequence[torch.Tensor]:
        return super().encode_images(model, prompts)[::-1]


class SeesThroughNoise(Qwen25VL):
    """Leaves dropout on in the vision tower."""

    def encode_images(self, model: Any, prompts: Sequence[EncodedPrompt]) -> Sequence[torch.Tensor]:
        return [torch.nn.functional.dropout(image, 0.2) for image in super().encode_images(model, prompts)]


class SmallestImageRules(Qwen25VL):
    """Shrinks every image of a prompt to the area of the smallest."""

    def encode(self, prompt: Prompt, images: Sequence[Image]) -> EncodedPrompt:
        smallest = min((image.size for image in images), default=(1, 1))
        encoded = super().encode(
            prompt, [images[0], *(image.resize(smallest) for image in images[1:])] if images else []
        )
        frames = tuple(ImageFrame(i.size, f.input_wh) for i, f in zip(images, encoded.frames, strict=True))
        return replace(encoded, frames=frames)


class DetachesFeatures(Qwen25VL):
    """Cuts the gradient of the vision tower."""

    def encode_images(self, model: Any, prompts: Sequence[EncodedPrompt]) -> Sequence[torch.Tensor]:
        return [image.detach() for image in super().encode_images(model, prompts)]


class BansNothing(Qwen25VL):
    """Lets placeholders be drawn."""

    def banned_ids(self) -> tuple[int, ...]:
        return ()


class BansTheStop(Qwen25VL):
    """Lets no completion end."""

    def banned_ids(self) -> tuple[int, ...]:
        return (*super().banned_ids(), self.tokenizer.eos_token_id)


class FreezesTooLittle(Qwen25VL):
    """Takes the projector for a part of the language model."""

    vision_modules = ("model.visual.blocks", "model.visual.patch_embed")
    projector_modules = ()


class FreezesTooMuch(Qwen25VL):
    """Takes the last norm of the language model for a part of the projector."""

    vision_modules = ("model.visual", "model.language_model.norm")


class BlanksNothing(Qwen25VL):
    """Shows the picture instead of a blank."""

    def blank(self, prompt: EncodedPrompt) -> EncodedPrompt:
        return prompt


class SavesAnotherProcessor(Qwen25VL):
    """Saves image settings that are not the loaded ones."""

    def save(self, folder: Any) -> None:
        size, self.image_processor.size = self.image_processor.size, {"shortest_edge": 3136, "longest_edge": 3136}
        super().save(folder)
        self.image_processor.size = size


class CopiesWeights(Qwen25VL):
    """Replaces a module by one with parameters of another name."""

    def prepare(self, model: Any) -> None:
        merger = model.model.visual.merger
        merger.mlp = torch.nn.Sequential(torch.nn.Sequential(*merger.mlp))


class Raises(Qwen25VL):
    """Has not been finished."""

    def blank(self, prompt: EncodedPrompt) -> EncodedPrompt:
        raise NotImplementedError("to do")
