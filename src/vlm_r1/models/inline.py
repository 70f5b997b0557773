"""The base of families whose images are runs of one token in the text, at ordinary positions.

The chat template writes one token for an image (`template_image_token`). The family's processor, and this adapter like
it, replaces it by an *expansion*: one placeholder for each feature that the vision part will compute, and tokens of
structure around them. The size of the image decides how many there are, so lengths are known without decoding it.
"""

# pyright: standard

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL.Image import Image
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vlm_r1.errors import ModelError
from vlm_r1.models.adapter import Adapter
from vlm_r1.types import EncodedPrompt, ImageFrame, Prompt

Size = tuple[int, int]
"""(width, height) in pixels."""


class InlineImages(Adapter):
    """A family of this kind. Its own class adds how it sees images of given sizes.

    Attributes:
        structure: the other tokens of expansions, and tokens of videos; a checkpoint need not have all of them.
        processor_class: name of the family's combined processor in transformers, written into saved folders.
        settings: attributes that the family's image processor must have; one without them belongs to another model.
    """

    structure: ClassVar[tuple[str, ...]]
    processor_class: ClassVar[str]
    settings: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def tile(self) -> int:
        """Side in pixels of the square that the vision part sees at once, by the image processor: e.g. 448."""

    @abstractmethod
    def seen_sizes(self, sizes_wh: Sequence[Size]) -> list[Size]:
        """Return the size at which the model sees each image of one prompt, without padding and thumbnails."""

    @abstractmethod
    def expansions(self, sizes_wh: Sequence[Size]) -> list[str]:
        """Return the text that replaces each image of one prompt; the images have these original sizes."""

    @abstractmethod
    def pixels(self, images: Sequence[Image]) -> Mapping[str, torch.Tensor]:
        """Return the images of one prompt as tensors, under the names of the model's forward."""

    @abstractmethod
    def processor_settings(self) -> Mapping[str, Any]:
        """Return the combined processor's own settings, beyond tokenizer and image processor: {"image_seq_len": 64}."""

    def check(self, source: str) -> None:
        super().check(source)
        remedy = "it belongs to another model; copy preprocessor_config.json from the original checkpoint"
        if missing := [name for name in self.settings if not hasattr(self.image_processor, name)]:
            raise ModelError(f"{source}: the image processor has no {', '.join(missing)}: {remedy}")
        if misfit := self.misfit():
            raise ModelError(f"{source}: {misfit}: {remedy}")

    def misfit(self) -> str | None:
        """Return how the image processor does not fit the model's config, in words; None: it fits."""
        edge = self.config.vision_config.image_size  # type: ignore[attr-defined]
        edge = edge if isinstance(edge, int) else edge[0]
        return None if self.tile == edge else f"the image processor makes squares of {self.tile} pixels, not {edge}"

    def encode(self, prompt: Prompt, images: Sequence[Image]) -> EncodedPrompt:
        text = self.render(prompt)
        sizes_wh = [image.size for image in images]
        ids_L = self._ids(text, sizes_wh)
        if not images:
            return EncodedPrompt(ids_L, {}, (), text)
        frames = tuple(map(ImageFrame, sizes_wh, self.seen_sizes(sizes_wh)))
        return EncodedPrompt(ids_L, self.pixels(images), frames, text)

    def image_tokens(self, width: int, height: int) -> int:
        (expansion,) = self.expansions([(width, height)])
        return expansion.count(self.placeholder)

    def prompt_length(self, prompt: Prompt, sizes_wh: Sequence[Size]) -> int:
        return len(self._ids(self.render(prompt), sizes_wh))

    def banned_ids(self) -> tuple[int, ...]:
        vocabulary = self.tokenizer.get_added_vocab()
        own = (self.placeholder, self.template_image_token, *self.structure)
        return tuple(sorted({vocabulary[token] for token in own if token in vocabulary}))

    def vision_arguments(self, features: Sequence[Sequence[torch.Tensor]]) -> dict[str, Any]:
        images = [image for own in features for image in own]
        if not images:
            return {}
        return {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=self.pooled(images))}}

    def pooled(self, images: Sequence[torch.Tensor]) -> Any:
        """Return the features of images as the model's forward takes them: in most families one tensor (tokens, H)."""
        return torch.cat(list(images))

    def save(self, folder: str | Path) -> None:
        """Write also the file from which `AutoProcessor` builds the combined processor."""
        super().save(folder)
        settings = {"processor_class": self.processor_class, **self.processor_settings()}
        (Path(folder) / "processor_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")

    def split_features(self, features: torch.Tensor, prompts: Sequence[EncodedPrompt]) -> list[torch.Tensor]:
        """Split the features (…, H) of all images of the prompts, in order, into (tokens, H) for each image."""
        tokens = [
            expansion.count(self.placeholder)
            for prompt in prompts
            for expansion in self.expansions([frame.original_wh for frame in prompt.frames])
        ]
        return list(features.flatten(0, -2).split(tokens))

    def _ids(self, text: str, sizes_wh: Sequence[Size]) -> tuple[int, ...]:
        first, *rest = text.split(self.template_image_token or self.placeholder)
        expansions = self.expansions(sizes_wh) if sizes_wh else []
        pieces = [text for expansion, after in zip(expansions, rest, strict=True) for text in (expansion, after)]
        expanded = "".join([first, *pieces])
        bos = self.tokenizer.bos_token
        # the combined processors do the same: the tokenizer adds its tokens unless the template wrote them already
        adds = not (bos and expanded.startswith(bos))
        return tuple(self.tokenizer(expanded, add_special_tokens=adds)["input_ids"])
