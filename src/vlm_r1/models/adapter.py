"""What the rest of the package needs to know about a model family, and nothing about tasks.

A family is a subclass of `Adapter` with constants (box format, part names) and four small methods. `loading.py` picks
it by the checkpoint's `model_type`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL.Image import Image
from transformers import PretrainedConfig, PreTrainedModel

from vlm_r1.errors import ModelError
from vlm_r1.types import IMAGE_TOKEN, BoxFormat, EncodedPrompt, Prompt


class Adapter(ABC):
    """One family: how prompts are encoded, how boxes are written, what its parts are called.

    Attributes:
        box_format: coordinates in which the family writes boxes.
        vision_modules: dotted names of the vision tower and its projector inside the model.
        placeholder: the token that stands for a part of an image, e.g. "<|image_pad|>".
    """

    box_format: ClassVar[BoxFormat]
    vision_modules: ClassVar[tuple[str, ...]]
    placeholder: ClassVar[str]

    def __init__(self, config: PretrainedConfig, tokenizer: Any, image_processor: Any):
        self.config = config
        self.tokenizer = tokenizer
        self.image_processor = image_processor

    @abstractmethod
    def encode(self, prompt: Prompt, images: Sequence[Image]) -> EncodedPrompt:
        """Render the chat template, preprocess the RGB images of the prompt and tokenize.

        Raises:
            ModelError: the template drops images, or the text contains a placeholder token.
        """

    @abstractmethod
    def image_tokens(self, width: int, height: int) -> int:
        """Number of placeholder tokens of an image of that size, without decoding it."""

    @abstractmethod
    def banned_ids(self) -> tuple[int, ...]:
        """Placeholder tokens that must never be sampled."""

    @abstractmethod
    def encode_images(self, model: PreTrainedModel, prompts: Sequence[EncodedPrompt]) -> Sequence[torch.Tensor]:
        """Run the vision tower once over all images of the prompts, which all have some: (tokens, H) of each image."""

    @abstractmethod
    def vision_arguments(self, features: Sequence[Sequence[torch.Tensor]]) -> dict[str, Any]:
        """Forward arguments for prompts, in order, whose images have these features; some may have none."""

    @abstractmethod
    def blank(self, prompt: EncodedPrompt) -> EncodedPrompt:
        """The prompt with images of the same size that show nothing, to find out whether the model looks at them."""

    @abstractmethod
    def positions(self, model: PreTrainedModel, prompts: Sequence[EncodedPrompt]) -> list[torch.Tensor]:
        """Position ids of each prompt, unpadded, (A, L); A = 3 for M-RoPE, else 1. A completion starts at max + 1."""

    def prepare(self, model: Any) -> None:  # noqa: B027 (most families have nothing to replace)
        """Called on a freshly loaded model: exact replacements of slow modules, under the same parameters."""

    def image_features(
        self, model: PreTrainedModel, prompts: Sequence[EncodedPrompt]
    ) -> list[tuple[torch.Tensor, ...]]:
        """The features of each prompt's images: those it carries, else from one run of the vision tower over all."""
        rest = [prompt for prompt in prompts if prompt.frames and prompt.features is None]
        fresh = iter(self.encode_images(model, rest) if rest else ())
        return [
            tuple(islice(fresh, len(prompt.frames))) if prompt.features is None else prompt.features
            for prompt in prompts
        ]

    def sees_with_frozen_parts(self, model: Any) -> bool:
        """Whether no parameter of the vision modules trains, so that an image's features never change."""
        base = self.unwrap(model)
        parts = [base.get_submodule(name) for name in self.vision_modules]
        return not any(parameter.requires_grad for part in parts for parameter in part.parameters())

    def backbone(self, model: Any) -> Any:
        """The model without its output head: input ids to hidden states."""
        return self.unwrap(model).base_model

    def prompt_length(self, prompt: Prompt, sizes_wh: Sequence[tuple[int, int]]) -> int:
        """`len(encode(prompt, images).ids_L)` from the sizes of the images alone."""
        text = self.render(prompt)
        return len(self.tokenize(text)) - len(sizes_wh) + sum(self.image_tokens(*wh) for wh in sizes_wh)

    @property
    def pad_id(self) -> int:
        """Token id for padding; it is always masked."""
        return self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id

    @staticmethod
    def unwrap(model: Any) -> Any:
        """The transformers model inside a peft wrapper, or the model itself."""
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def stop_ids(self, model: PreTrainedModel) -> tuple[int, ...]:
        """Tokens that end an answer, from the checkpoint's generation config, e.g. (151645, 151643)."""
        stop = model.generation_config.eos_token_id if model.generation_config is not None else None
        stop = self.tokenizer.eos_token_id if stop is None else stop
        return tuple(stop) if isinstance(stop, list | tuple) else (int(stop),)

    def decode(self, ids_T: Sequence[int]) -> str:
        """Text of a completion, special tokens left out."""
        return self.tokenizer.decode(list(ids_T), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Token ids of plain text, nothing added (used for gold completions)."""
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def save(self, folder: str | Path) -> None:
        """Write tokenizer, chat template and image processor, as their own classes do."""
        self.tokenizer.save_pretrained(folder)
        self.image_processor.save_pretrained(folder)

    def render(self, prompt: Prompt) -> str:
        """The chat text of one user turn, each image as one placeholder; checks that none was lost."""
        placeholder = self.placeholder
        texts = prompt.text.split(IMAGE_TOKEN)
        if len(texts) - 1 != len(prompt.images):
            raise ModelError(
                f"prompt has {len(texts) - 1} {IMAGE_TOKEN} for {len(prompt.images)} images: {prompt.text[:200]!r}"
            )
        if placeholder in prompt.text:
            raise ModelError(
                f"the prompt's text contains the model's own placeholder {placeholder}: remove it from the data"
            )
        content: list[Mapping[str, str]] = [{"type": "text", "text": texts[0]}] if texts[0] else []
        for text in texts[1:]:
            content.append({"type": "image"})
            content += [{"type": "text", "text": text}] if text else []
        messages = [{"role": "user", "content": content}]
        rendered = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        if rendered.count(placeholder) != len(prompt.images):
            raise ModelError(
                f"the checkpoint's chat template wrote {rendered.count(placeholder)} {placeholder} for "
                f"{len(prompt.images)} images: it is not a template for images; take the one of the original checkpoint"
            )
        return rendered
