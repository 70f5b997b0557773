"""The adapter: everything that the rest of the package needs to know about a model family. It knows no tasks.

A family is a subclass of `Adapter` with constants (box format, part names) and a few small methods. `loading.py` picks
it by the checkpoint's `model_type`.
"""

# pyright: standard

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL.Image import Image
from transformers import PretrainedConfig, PreTrainedModel

from vlm_r1.config.model import Part
from vlm_r1.errors import ModelError
from vlm_r1.models.chat import Message, chat_messages, check_all_said, with_plain_context
from vlm_r1.parsing.tags import TAGS, THINK
from vlm_r1.types import IMAGE_TOKEN, BoxFormat, EncodedPrompt, ImageFrame, Prompt


def is_within(name: str, modules: tuple[str, ...]) -> bool:
    """Return whether a dotted name is one of these modules or parameters, or lies inside one.

    >>> is_within("model.visual.proj.weight", ("model.visual",)), is_within("model.visuals", ("model.visual",))
    (True, False)
    """
    return any(name == module or name.startswith(f"{module}.") for module in modules)


class Adapter(ABC):
    """One model family: it encodes prompts, knows how boxes are written and how the parts of the model are called.

    Attributes:
        box_format: coordinates in which the family writes boxes.
        trust_remote_code: whether code of the checkpoint may run; `load_adapter` says so.
        vision_modules: dotted names of the vision tower and its projector inside the model, single parameters too.
        projector_modules: those of them, or modules inside them, that map image features to the language model's.
        placeholder: the token whose embedding an image feature replaces, e.g. "<|image_pad|>".
        template_image_token: what the chat template writes for an image, e.g. "<start_of_image>"; empty: the
            placeholder.
        control_tokens: names in the config of the tokens that only the processor writes, e.g. ("image_token_id",).
        why_not_shared: why a prompt must not be computed once for all its completions, even if the architecture
            allows it; layout `auto` and the sampler obey. Empty: it may.
        knows_family: False only in the generic adapter, which serves any family.
        vision_taps: the key of the vision config that lists inner layers whose features the language model adds to the
            inputs of its first layers, e.g. "deepstack_visual_indexes"; empty if there are no such layers.
        chat_template_kwargs: switches of the chat template, set in every rendering, e.g. {"enable_thinking": False}.
        logit_scale: the model's forward multiplies the logits of the output head by it, as Cohere's models do.
        logit_cap: the model's forward caps logits x softly after that, as cap · tanh(x / cap); None: it does not.
        answer_wrappers: tokens that a model writes around an answer and that do not belong to it, e.g.
            ("<|begin_of_box|>", "<|end_of_box|>").
    """

    box_format: BoxFormat
    trust_remote_code: bool = False
    vision_modules: tuple[str, ...]
    projector_modules: tuple[str, ...] = ()
    placeholder: str
    template_image_token: str = ""
    control_tokens: ClassVar[tuple[str, ...]] = ("image_token_id",)
    answer_wrappers: ClassVar[tuple[str, ...]] = ()
    why_not_shared: ClassVar[str] = ""
    knows_family: ClassVar[bool] = True
    vision_taps: ClassVar[str] = ""
    logit_scale: float = 1.0
    logit_cap: float | None = None

    def __init__(self, config: PretrainedConfig, tokenizer: Any, image_processor: Any):
        self.config = config
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.chat_template_kwargs: Mapping[str, Any] = {}

    @property
    def placeholder_id(self) -> int:
        """Token id of the placeholder, from the model's config."""
        return self.config.image_token_id  # type: ignore[attr-defined]

    def check(self, source: str) -> None:
        """Check, before any weights are loaded, that tokenizer, template and processor belong to the model.

        Raises:
            ModelError: starts with `source`, says what does not fit, and what to copy from the original checkpoint.
        """
        if self.tokenizer.chat_template is None:
            raise ModelError(
                f"{source}: the tokenizer has no chat template; copy chat_template.jinja (or chat_template.json) from "
                "the original checkpoint"
            )
        # transformers silently makes an empty tokenizer if its files are missing
        if self.tokenizer.convert_tokens_to_ids(self.placeholder) != self.placeholder_id:
            raise ModelError(
                f"{source}: the tokenizer does not have {self.placeholder} as token {self.placeholder_id}, as the "
                "config says; copy the tokenizer files from the original checkpoint"
            )

    @abstractmethod
    def encode(self, prompt: Prompt, images: Sequence[Image]) -> EncodedPrompt:
        """Render the chat template, preprocess the RGB images of the prompt and tokenize.

        Raises:
            ModelError: the template drops images, or the text contains a placeholder token.
        """

    def as_seen(self, image: Image, frame: ImageFrame) -> Image:
        """Return the upright RGB picture as the model sees it; resized, if that is all that the processor does."""
        return image

    @abstractmethod
    def image_tokens(self, width: int, height: int) -> int:
        """Return the number of placeholder tokens of an image of that size in pixels; no image is decoded."""

    @abstractmethod
    def limit_pixels(self, min_pixels: int | None, max_pixels: int | None) -> None:
        """Set how small and how large the model may see an image, in pixels of area; None keeps the processor's limit.

        Raises:
            ModelError: the limits are out of order or too small for one token, or the family has no such limit.
        """

    @abstractmethod
    def encode_images(self, model: PreTrainedModel, prompts: Sequence[EncodedPrompt]) -> Sequence[torch.Tensor]:
        """Run the vision tower once over all images of the prompts. Each prompt has images.

        Returns:
            (tokens, H) for each image, in the order of prompts and images.
        """

    @abstractmethod
    def vision_arguments(self, features: Sequence[Sequence[torch.Tensor]]) -> dict[str, Any]:
        """Return the forward arguments for prompts whose images have these features; a prompt may have no image.

        Args:
            features: for each prompt, in order, (tokens, H) of each of its images.
        """

    def blank(self, prompt: EncodedPrompt) -> EncodedPrompt:
        """Return the prompt with images of the same size that show nothing: a model that sees must answer differently.

        The pixels are zero, the mean colour after the processor's normalisation.
        """
        grey = torch.zeros_like(prompt.vision["pixel_values"])
        return replace(prompt, vision={**prompt.vision, "pixel_values": grey}, features=None)

    def positions(self, model: PreTrainedModel, prompts: Sequence[EncodedPrompt]) -> list[torch.Tensor]:
        """Return the position ids of each prompt, unpadded, (A, L). A is 3 for M-RoPE, else 1.

        The positions of a completion start at the largest of its prompt plus 1.
        """
        return [torch.arange(len(prompt.ids_L), device=model.device)[None] for prompt in prompts]

    def processor_settings(self) -> Mapping[str, Any]:
        """Return the combined processor's own settings, beyond tokenizer and image processor: {"image_seq_len": 64}."""
        return {}

    def token_types(self, ids_NL: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return forward arguments that mark the tokens of images in ordinary rows, (N, L) each.

        Only a family whose attention depends on them returns any. Its masks then come from the model's
        `create_masks_for_generate`.
        """
        return {}

    def prepare(self, model: Any) -> None:  # noqa: B027 (most families have nothing to replace)
        """Change a freshly loaded model, e.g. replace slow modules by exact ones. Parameters and their names stay."""

    def banned_ids(self) -> tuple[int, ...]:
        """Return the tokens that must never be sampled: a model that drew one would read an image that is not there."""
        return tuple(sorted({getattr(self.config, name) for name in self.control_tokens}))

    def image_features(
        self, model: PreTrainedModel, prompts: Sequence[EncodedPrompt]
    ) -> list[tuple[torch.Tensor, ...]]:
        """Return the features of each prompt's images; one run of the vision tower computes those that are missing."""
        rest = [prompt for prompt in prompts if prompt.frames and prompt.features is None]
        fresh = iter(self.encode_images(model, rest) if rest else ())
        return [
            tuple(islice(fresh, len(prompt.frames))) if prompt.features is None else prompt.features
            for prompt in prompts
        ]

    @torch.no_grad()
    def with_features(self, model: Any, prompts: Sequence[EncodedPrompt]) -> list[EncodedPrompt]:
        """Return the prompts; if the vision part is frozen, with their image features, which are then computed once."""
        if not self.sees_with_frozen_parts(model):
            return list(prompts)
        features_P = self.image_features(model, prompts)
        return [replace(prompt, features=own) for prompt, own in zip(prompts, features_P, strict=True)]

    def part_of(self, name: str) -> Part:
        """Return the part of the model that a module or parameter belongs to.

        Args:
            name: its dotted name, in the model or in the peft wrapper.
        """
        name = name.removeprefix("base_model.model.")
        if is_within(name, self.projector_modules):
            return "projector"
        return "vision" if is_within(name, self.vision_modules) else "language"

    def sees_with_frozen_parts(self, model: Any) -> bool:
        """Return whether no parameter of the vision modules trains, so that an image's features never change."""
        parameters = self.unwrap(model).named_parameters()
        return not any(p.requires_grad for name, p in parameters if is_within(name, self.vision_modules))

    def backbone(self, model: Any) -> Any:
        """Return the model without its output head. It maps input ids to hidden states."""
        return self.unwrap(model).base_model

    def prompt_length(self, prompt: Prompt, sizes_wh: Sequence[tuple[int, int]]) -> int:
        """Return `len(encode(prompt, images).ids_L)`; only the sizes (width, height) of the images are needed."""
        text = self.render(prompt)
        return len(self.tokenize(text)) - len(sizes_wh) + sum(self.image_tokens(*wh) for wh in sizes_wh)

    @property
    def pad_id(self) -> int:
        """Token id for padding; it is always masked."""
        return self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id

    @staticmethod
    def unwrap(model: Any) -> Any:
        """Return the transformers model inside a peft wrapper, or the model itself."""
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def stop_ids(self, model: PreTrainedModel) -> tuple[int, ...]:
        """Return the tokens that end an answer, from the checkpoint's generation config, e.g. (151645, 151643)."""
        stop = model.generation_config.eos_token_id if model.generation_config is not None else None
        stop = self.tokenizer.eos_token_id if stop is None else stop
        return tuple(stop) if isinstance(stop, list | tuple) else (int(stop),)

    def answer_end(self, model: PreTrainedModel) -> int:
        """Return the stop token that a gold answer ends with: the one that the chat template writes after an answer.

        If that is no stop token, it is the tokenizer's end-of-sequence token, or else the first stop token.
        """
        stop_ids = self.stop_ids(model)
        wanted = (self.tokenizer.convert_tokens_to_ids(self.turn_end), self.tokenizer.eos_token_id)
        return next((token for token in wanted if token in stop_ids), stop_ids[0])

    @cached_property
    def turn_end(self) -> str:
        """The token that the chat template writes after an assistant's turn, before the next user turn; "" if none."""
        said = [("user", "Is it red?"), ("assistant", "ruby"), ("user", "Is it blue?")]
        messages = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in said]
        try:
            after = self._chat_text(messages).rpartition("ruby")[2]
        except ModelError:  # a template that allows one question only
            return ""
        return (self.tokenizer.tokenize(after.lstrip()) or [""])[0]

    @cached_property
    def opens_thought(self) -> bool:
        """Whether the chat template opens the thought for the model; `render` takes that away, a server does not."""
        asked = [{"role": "user", "content": [{"type": "text", "text": "Is it red?"}]}]
        return self._chat_text(asked, add_generation_prompt=True).rstrip("\n").endswith(THINK)

    def decode(self, ids_T: Sequence[int]) -> str:
        """Return the text of a completion without special tokens and answer wrappers, but with its tags."""
        spoken = [token for token in ids_T if token not in self._unspoken_ids]
        return self.tokenizer.decode(spoken, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    @cached_property
    def _unspoken_ids(self) -> frozenset[int]:
        added = self.tokenizer.added_tokens_decoder.items()
        return frozenset(
            token
            for token, content in added
            if content.content in self.answer_wrappers or (content.special and content.content not in TAGS)
        )

    def tokenize(self, text: str) -> tuple[int, ...]:
        """Return the token ids of plain text; nothing is added. Gold completions are made so."""
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def own_tokens(self) -> frozenset[str]:
        """Return the texts that the tokenizer reads as control tokens, except tags. Data must not hold them."""
        added = self.tokenizer.added_tokens_decoder.values()
        special = {token.content for token in added if token.special}
        return frozenset({*special, *self.answer_wrappers, self.placeholder, self.template_image_token} - {"", *TAGS})

    def save(self, folder: str | Path) -> None:
        """Write tokenizer, chat template and image processor with their own `save_pretrained`."""
        self.tokenizer.save_pretrained(folder)
        self.image_processor.save_pretrained(folder)

    def render(self, prompt: Prompt) -> str:
        """Return the chat text of a prompt: system message, earlier turns, question; one token for each image.

        Some templates open the thought for the model (Qwen3.5, the "Thinking" checkpoints). Their `<think>` is removed
        from the prompt: a completion holds all of its own tags and is judged, trained and supervised as a whole.

        Raises:
            ModelError: the template lost an image, the system message or an earlier turn, or a text contains a
                placeholder.
        """
        return self.converse(prompt)[1]

    def converse(self, prompt: Prompt) -> tuple[list[Message], str]:
        """Return the messages that the chat template gets, each image as {"type": "image"}, and `render`'s text.

        Raises:
            ModelError: see `render`.
        """
        image_token = self.template_image_token or self.placeholder
        texts = [prompt.system or "", *(turn.text for turn in prompt.turns)]
        if (n_marks := sum(text.count(IMAGE_TOKEN) for text in texts)) != len(prompt.images):
            raise ModelError(
                f"prompt has {n_marks} {IMAGE_TOKEN} for {len(prompt.images)} images: {prompt.text[:200]!r}"
            )
        bare = [text.replace(IMAGE_TOKEN, "\n") for text in texts]
        if own := {token for token in (image_token, self.placeholder) for text in bare if token in text}:
            raise ModelError(
                f"the prompt's text contains the model's own placeholder {' '.join(own)}: remove it from the data"
            )
        messages = chat_messages(prompt, [{"type": "image"}] * len(prompt.images))
        try:
            return messages, self._render(prompt, messages, image_token)
        except ModelError:
            plain = with_plain_context(messages)
            if plain == messages:
                raise
            with suppress(ModelError):
                return plain, self._render(prompt, plain, image_token)
            raise

    def _render(self, prompt: Prompt, messages: list[Message], image_token: str) -> str:
        rendered = self._chat_text(messages, add_generation_prompt=True)
        check_all_said(prompt, rendered)
        if rendered.count(image_token) != len(prompt.images):
            raise ModelError(
                f"the checkpoint's chat template wrote {rendered.count(image_token)} {image_token} for "
                f"{len(prompt.images)} images: it is not a template for images; take the one of the original checkpoint"
            )
        opened = rendered.rstrip("\n")
        return opened.removesuffix(THINK) if opened.endswith(THINK) else rendered

    def _chat_text(self, messages: list[dict[str, Any]], **options: Any) -> str:
        """What the checkpoint's chat template makes of messages. It runs in jinja's sandbox."""
        try:
            return self.tokenizer.apply_chat_template(messages, tokenize=False, **self.chat_template_kwargs, **options)
        except Exception as error:  # an expression of a template can raise nearly anything
            raise ModelError(
                f"the checkpoint's chat template fails: {type(error).__name__}: {str(error).strip()[:200]} (wanted "
                "chat_template.jinja of the original checkpoint)"
            ) from error
