"""What families have in common whose images are runs of one token in the text, at ordinary positions.

The chat template writes one token for an image (`template_image_token`). The family's processor, and this adapter like
it, replaces it by an *expansion*: one placeholder for each feature that the vision part will compute, and tokens of
structure around them. The size of the image decides how many there are, so lengths are known without decoding it.
"""

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
    """A family of this kind; what is left to say is how it sees images of some sizes.

    Attributes:
        structure: the tokens besides the placeholder that stand in expansions, or mark videos; those that a checkpoint
            does not have are passed over.
        processor_class: name of the family's combined processor in transformers, written into saved folders.
        settings: what the family's image processor has, by which that of another model is told.
    """

    structure: ClassVar[tuple[str, ...]]
    processor_class: ClassVar[str]
    settings: ClassVar[tuple[str, ...]]

    @property
    @abstractmethod
    def tile(self) -> int:
        """Side in pixels of the square that the vision part sees at once, by the image processor's settings: 448."""

    @abstractmethod
    def seen_sizes(self, sizes_wh: Sequence[Size]) -> list[Size]:
        """How large the model sees each image of one prompt: the picture itself, padding and thumbnails left out."""

    @abstractmethod
    def expansions(self, sizes_wh: Sequence[Size]) -> list[str]:
        """What stands in the text for each image of one prompt, of these original sizes."""

    @abstractmethod
    def pixels(self, images: Sequence[Image]) -> Mapping[str, torch.Tensor]:
        """The images of one prompt as the model's forward takes them."""

    @abstractmethod
    def processor_settings(self) -> Mapping[str, Any]:
        """What the combined processor has to know besides tokenizer and image processor, e.g. {"image_seq_len": 64}."""

    def check(self, source: str) -> None:
        super().check(source)
        remedy = "it belongs to another model; copy preprocessor_config.json from the original checkpoint"
        if missing := [name for name in self.settings if not hasattr(self.image_processor, name)]:
            raise ModelError(f"{source}: the image processor has no {', '.join(missing)}: {remedy}")
        edge = self.config.vision_config.image_size  # type: ignore[attr-defined]
        edge = edge if isinstance(edge, int) else edge[0]
        if self.tile != edge:
            raise ModelError(f"{source}: the image processor makes squares of {self.tile} pixels, not {edge}: {remedy}")

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
        """Features of images as the model's forward takes them: in most families in one piece, (tokens, H)."""
        return torch.cat(list(images))

    def save(self, folder: str | Path) -> None:
        """Write also what `AutoProcessor` needs to know to build the combined processor."""
        super().save(folder)
        settings = {"processor_class": self.processor_class, **self.processor_settings()}
        (Path(folder) / "processor_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")

    def split_features(self, features: torch.Tensor, prompts: Sequence[EncodedPrompt]) -> list[torch.Tensor]:
        """Features (…, H) of all images of the prompts, one after the other, as (tokens, H) of each image."""
        tokens = [
            expansion.count(self.placeholder)
            for prompt in prompts
            for expansion in self.expansions([frame.original_wh for frame in prompt.frames])
        ]
        return list(features.flatten(0, -2).split(tokens))

    def _ids(self, text: str, sizes_wh: Sequence[Size]) -> tuple[int, ...]:
        first, *rest = text.split(self.template_image_token or self.placeholder)
        expansions = self.expansions(sizes_wh) if sizes_wh else []
        parts = [part for expansion, after in zip(expansions, rest, strict=True) for part in (expansion, after)]
        expanded = "".join([first, *parts])
        bos = self.tokenizer.bos_token
        # as the combined processors do: what the tokenizer adds is added, unless the template wrote it already
        adds = not (bos and expanded.startswith(bos))
        return tuple(self.tokenizer(expanded, add_special_tokens=adds)["input_ids"])
