"""Gemma 4: an image fills a budget of 70 to 1120 tokens, of 48 × 48 pixels each, and keeps its proportions.

The large models let the tokens of an image attend to each other in both directions, in layers with windows alone; the
small ones do not (`use_bidirectional_attention`). The small ones add an embedding of each token to every layer, and
their last layers reuse keys and values of earlier ones. Both follow from token ids and layers, so a prompt can be
shared. All models cap their logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL.Image import Image
from transformers import PretrainedConfig, PreTrainedModel

from vlm_r1.errors import DataError, ModelError
from vlm_r1.models.inline import InlineImages, Size
from vlm_r1.types import BoxFormat, EncodedPrompt

BUDGETS = (70, 140, 280, 560, 1120)
"""Numbers of image tokens that the family was trained with; its image processor takes no others."""

_OF_OTHER_SENSES = ("image_token_id", "video_token_id", "audio_token_id", "boi_token_id", "eoi_token_id")
_OF_AUDIO = ("boa_token_id", "eoa_token_index")


class Gemma4(InlineImages):
    """Boxes are 0–1000 with y first, `box_2d`, as in Google's other models; see docs/models.md for what was checked.

    What hears belongs to the vision part, because it is frozen with it. It never trains: there are no sounds.
    """

    box_format = BoxFormat.NORM_1000_YX
    vision_modules = ("model.vision_tower", "model.embed_vision", "model.audio_tower", "model.embed_audio")
    projector_modules = ("model.embed_vision",)
    structure = ("<|audio|>", "<|video|>")
    processor_class = "Gemma4Processor"
    settings = ("patch_size", "pooling_kernel_size", "max_soft_tokens")

    def __init__(self, config: PretrainedConfig, tokenizer: Any, image_processor: Any):
        super().__init__(config, tokenizer, image_processor)
        self.placeholder = self._token("image_token_id")
        self._text_config: Any = config.get_text_config()  # pyright: ignore[reportUnknownMemberType]
        self.logit_cap = getattr(self._text_config, "final_logit_softcapping", None)

    @property
    def tile(self) -> int:
        """Side in pixels of the square that one token stands for: 48."""
        return self.image_processor.patch_size * self.image_processor.pooling_kernel_size

    def misfit(self) -> str | None:
        vision_config: Any = self.config.vision_config  # type: ignore[attr-defined]
        for name in ("patch_size", "pooling_kernel_size"):
            own, due = getattr(self.image_processor, name), getattr(vision_config, name)
            if own != due:
                return f"the image processor has {name} {own}, not {due}"
        return None

    def seen_sizes(self, sizes_wh: Sequence[Size]) -> list[Size]:
        """See `InlineImages`.

        Raises:
            DataError: the family's resize refuses an image.
        """
        from transformers.models.gemma4.image_processing_pil_gemma4 import get_aspect_ratio_preserving_size

        processor, sizes = self.image_processor, list[Size]()
        for width, height in sizes_wh:
            patches = processor.max_soft_tokens * processor.pooling_kernel_size**2
            try:
                seen_hw = get_aspect_ratio_preserving_size(
                    height, width, processor.patch_size, patches, processor.pooling_kernel_size
                )
            except ValueError as error:
                raise DataError(
                    f"an image of {width} x {height} pixels: {error}; crop it or drop the record"
                ) from error
            sizes.append((seen_hw[1], seen_hw[0]))
        return sizes

    def expansions(self, sizes_wh: Sequence[Size]) -> list[str]:
        begin, end = self._token("boi_token_id"), self._token("eoi_token_id")
        tokens = [width * height // self.tile**2 for width, height in self.seen_sizes(sizes_wh)]
        return [f"{begin}{self.placeholder * count}{end}" for count in tokens]

    def pixels(self, images: Sequence[Image]) -> Mapping[str, torch.Tensor]:
        seen = self.image_processor(images=list(images), return_tensors="pt")
        return {name: seen[name] for name in ("pixel_values", "image_position_ids")}

    def limit_pixels(self, min_pixels: int | None, max_pixels: int | None) -> None:
        """Choose the largest budget of tokens whose squares have at most `max_pixels` pixels.

        Raises:
            ModelError: the smallest budget has more, or min_pixels is given: every image fills its budget anyway.
        """
        if min_pixels is not None:
            raise ModelError(
                "min_pixels has no effect on Gemma 4, which enlarges every image to its budget of tokens: set "
                "max_pixels alone"
            )
        fitting = [tokens for tokens in BUDGETS if tokens * self.tile**2 <= (max_pixels or 0)]
        if not fitting:
            raise ModelError(
                f"max_pixels {max_pixels}: wanted at least {BUDGETS[0] * self.tile**2}, {BUDGETS[0]} tokens"
            )
        self.image_processor.max_soft_tokens = fitting[-1]

    def blank(self, prompt: EncodedPrompt) -> EncodedPrompt:
        grey = torch.full_like(prompt.vision["pixel_values"], 0.5)  # pixels run from 0 to 1
        return replace(prompt, vision={**prompt.vision, "pixel_values": grey}, features=None)

    def banned_ids(self) -> tuple[int, ...]:
        named = (getattr(self.config, name, None) for name in (*_OF_OTHER_SENSES, *_OF_AUDIO))
        most = self._text_config.vocab_size
        return tuple(sorted({*super().banned_ids(), *(token for token in named if token is not None and token < most)}))

    def token_types(self, ids_NL: torch.Tensor) -> dict[str, torch.Tensor]:
        if getattr(self._text_config, "use_bidirectional_attention", None) != "vision":
            return {}
        return {"mm_token_type_ids": (ids_NL == self.placeholder_id).long()}

    def prepare(self, model: Any) -> None:
        for heard in (model.model.audio_tower, model.model.embed_audio):
            if heard is not None:
                heard.requires_grad_(False)

    def encode_images(self, model: PreTrainedModel, prompts: Sequence[EncodedPrompt]) -> Sequence[torch.Tensor]:
        pixels, places = (
            torch.cat([prompt.vision[name] for prompt in prompts]).to(model.device)
            for name in ("pixel_values", "image_position_ids")
        )
        features: Any = self.unwrap(model).get_image_features(pixels.to(model.dtype), places, return_dict=True)
        return features.pooler_output

    def pooled(self, images: Sequence[torch.Tensor]) -> Any:
        return tuple(images)

    def processor_settings(self) -> Mapping[str, Any]:
        return {"image_seq_length": self.image_processor.max_soft_tokens}

    def _token(self, name: str) -> str:
        """The token that the config names; empty if the tokenizer has none at that number."""
        return self.tokenizer.convert_ids_to_tokens(getattr(self.config, name)) or ""
