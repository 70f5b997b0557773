"""The adapter for any other image-text model of transformers. It uses the model's own combined processor.

The model must be a decoder that reads image features in the places of placeholder tokens, at ordinary positions and
with plain causal attention. `prepare` checks this on the loaded model and refuses otherwise. For that it compares the
arguments that the language model gets in the stock forward with those that it gets from this adapter. It also measures
what the forward does to the logits of the output head: nothing, or a scale or a soft cap that the config names.

The adapter cannot limit pixels. It does not know how large the model sees an image, so boxes cannot be in those pixels.
It needs a blank image of the right size to know a length. It bans only tokens that config or processor name. Prompts
are repeated for each completion (layout `rows`), unless a recipe wants `packed` and the trust check finds it equal. An
adapter of the family's own, of at most 100 lines (docs/add_a_model.md), can do all of this.
"""

# pyright: standard

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image, linear_gradient
from PIL.Image import new as new_image
from transformers import AutoProcessor, PretrainedConfig, PreTrainedModel, ProcessorMixin
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vlm_r1.errors import ModelError
from vlm_r1.models.adapter import Adapter
from vlm_r1.pretrained.foreign import ADAPTER, BROKEN, foreign, refusal
from vlm_r1.pretrained.remote_code import check_no_code
from vlm_r1.types import EncodedPrompt, ImageFrame, Prompt

_OF_TOKENS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
"""Outputs of processors that describe tokens, not images."""

_OF_VISION = {"last_hidden_state", "pooler_output", "hidden_states", "attentions"}
"""Outputs of `get_image_features`; the language model gets only `pooler_output`."""

_SCALES = ("logit_scale", "logits_scaling", "lm_head_multiplier")
"""Settings by which the forwards of some models multiply or divide the logits of the output head, and others do not."""

_FILES = "Copy the files of processor, tokenizer and template from the original checkpoint"

_IMAGE_TOKEN_SETTING = re.compile(r"(image|video|vision|boi|eoi).*token_(id|index)|(boi|eoi)_(id|index)")


class Generic(Adapter):
    """Any family that has no adapter of its own. Whoever loads it must give the `box_format`."""

    why_not_shared = (
        "its family has no adapter of its own; training.layout packed tries, and is checked before the first update"
    )
    knows_family = False

    def __init__(self, config: PretrainedConfig, tokenizer: Any, image_processor: Any):
        self.processor = self.load_processor(config)
        if missing := [part for part in ("tokenizer", "image_processor") if not hasattr(self.processor, part)]:
            raise ModelError(
                f'the {type(self.processor).__name__} of model type "{config.model_type}" has no '
                f"{' and no '.join(missing)}. {ADAPTER}"
            )
        self.processor.tokenizer.chat_template = tokenizer.chat_template
        super().__init__(config, self.processor.tokenizer, self.processor.image_processor)
        placeholder_id = getattr(config, "image_token_id", None)
        if placeholder_id is None:
            raise ModelError(f'the config of model type "{config.model_type}" names no image token. {ADAPTER}')
        self.placeholder = self.tokenizer.convert_ids_to_tokens(placeholder_id) or ""
        self.template_image_token = getattr(self.processor, "image_token", None) or self.placeholder
        self.vision_modules: tuple[str, ...] = ()  # known once `prepare` has seen the model
        self._in_pieces = False

    def load_processor(self, config: PretrainedConfig) -> Any:
        """Return the checkpoint's own combined processor.

        Raises:
            ModelError: it cannot be built here, or the checkpoint has none.
        """
        path = config.name_or_path
        try:
            processor = AutoProcessor.from_pretrained(path, trust_remote_code=self.trust_remote_code)
        except BROKEN as error:
            check_no_code(str(path), error)
            why = f'model type "{config.model_type}" has no adapter of its own, so all of its processor is needed'
            raise refusal(f"{path}: cannot load the processor ({why})", error, f"{_FILES}. {ADAPTER}") from error
        if not isinstance(processor, ProcessorMixin):
            raise ModelError(
                f"{path}: there is no processor for images and text, but a {type(processor).__name__}: copy "
                "processor_config.json from the original checkpoint"
            )
        return processor

    def encode(self, prompt: Prompt, images: Sequence[Image]) -> EncodedPrompt:
        text = self.render(prompt)
        inputs = self._inputs(text, images)
        vision = {name: tensor for name, tensor in inputs.items() if name not in _OF_TOKENS}
        frames = tuple(ImageFrame(image.size, image.size) for image in images)
        return EncodedPrompt(tuple(inputs["input_ids"][0].tolist()), vision, frames, text)

    def image_tokens(self, width: int, height: int) -> int:
        encoded = self.encode(Prompt("<image>", ("",)), [new_image("RGB", (width, height))])
        return encoded.ids_L.count(self.placeholder_id)

    def prompt_length(self, prompt: Prompt, sizes_wh: Sequence[tuple[int, int]]) -> int:
        return len(self.encode(prompt, [new_image("RGB", size_wh) for size_wh in sizes_wh]).ids_L)

    def limit_pixels(self, min_pixels: int | None, max_pixels: int | None) -> None:
        """Refuse: only an adapter of the family's own knows how its processor resizes.

        Raises:
            ModelError: always.
        """
        raise ModelError(
            f'min_pixels and max_pixels have no effect on model type "{self.config.model_type}", which has no adapter '
            f"of its own: remove them, and set the size in the checkpoint's preprocessor_config.json. {ADAPTER}"
        )

    def banned_ids(self) -> tuple[int, ...]:
        """Return every token that config or processor name as one of images or videos, and that the vocabulary has."""
        settings = self.config.to_dict().items()
        named = {value for name, value in settings if _IMAGE_TOKEN_SETTING.fullmatch(name) and isinstance(value, int)}
        named |= {self.placeholder_id, *getattr(self.processor, "image_token_ids", ())}
        return tuple(sorted(token for token in named if token < self.config.get_text_config().vocab_size))

    def image_features(
        self, model: PreTrainedModel, prompts: Sequence[EncodedPrompt]
    ) -> list[tuple[torch.Tensor, ...]]:
        # one run for each prompt, because families differ in how one tensor holds the images of several prompts
        return [
            tuple(self._features(model, prompt)) if prompt.frames and prompt.features is None else prompt.features or ()
            for prompt in prompts
        ]

    def encode_images(self, model: PreTrainedModel, prompts: Sequence[EncodedPrompt]) -> Sequence[torch.Tensor]:
        return [piece for prompt in prompts for piece in self._features(model, prompt)]

    def vision_arguments(self, features: Sequence[Sequence[torch.Tensor]]) -> dict[str, Any]:
        pieces = [piece for own in features for piece in own]
        if not pieces:
            return {}
        pooled: Any = tuple(pieces) if self._in_pieces else torch.cat(pieces)
        return {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(pooler_output=pooled)}}

    def blank(self, prompt: EncodedPrompt) -> EncodedPrompt:
        # nearly the mean colour, but not exactly zero, which some families take for padding
        grey = {name: torch.full_like(x, 1 / 255) for name, x in prompt.vision.items() if x.is_floating_point()}
        return replace(prompt, vision={**prompt.vision, **grey}, features=None)

    def prepare(self, model: Any) -> None:
        """Find the vision modules, and check with one image that this adapter suits the model.

        Raises:
            ModelError: it does not suit the model; says why.
        """
        decoder, kind = _decoder(model), f'model type "{self.config.model_type}"'
        if decoder is None or not hasattr(model, "get_image_features"):
            raise ModelError(f"{kind} has no language model that reads features of images. {ADAPTER}")
        self._find_parts(model, {decoder, model.get_input_embeddings()})
        if model.device.type == "meta":
            return  # a model of shapes without weights: there is nothing to compare
        training = model.training
        model.eval()
        with torch.no_grad():
            difference = self._difference(model, decoder) or self._find_after_head(model)
        model.train(training)
        if difference:
            raise ModelError(f"{self._unsuited(difference)}. {ADAPTER}")

    def _unsuited(self, why: str) -> str:
        return f'the generic adapter does not suit model type "{self.config.model_type}": {why}'

    def _find_parts(self, model: Any, of_language: set[torch.nn.Module]) -> None:
        """Find vision and projector modules: children of the base model without any module of the language model.

        Among them the vision tower is a `PreTrainedModel`; the others belong to the projector.
        """
        base, prefix = model.base_model, model.base_model_prefix
        seeing = {name: child for name, child in base.named_children() if of_language.isdisjoint(child.modules())}
        single = [name for name, _ in base.named_parameters(recurse=False)]
        self.vision_modules = tuple(f"{prefix}.{name}" for name in (*seeing, *single))
        projecting = [name for name, child in seeing.items() if not isinstance(child, PreTrainedModel)]
        self.projector_modules = tuple(f"{prefix}.{name}" for name in (*projecting, *single))

    def save(self, folder: str | Path) -> None:
        self.processor.save_pretrained(folder)

    def _inputs(self, text: str, images: Sequence[Image]) -> dict[str, torch.Tensor]:
        bos = self.tokenizer.bos_token
        adds = not (bos and text.startswith(bos))  # the processor's own apply_chat_template does the same
        nested = [list(images)] if images else None
        what, remedy = f'the processor of model type "{self.config.model_type}"', f"{_FILES}. {ADAPTER}"
        if images:
            what += f" fails on images of {', '.join(f'{w} x {h}' for w, h in (one.size for one in images))} pixels"
        else:
            what += " wants an image in every prompt"
            remedy = f"Leave records without images out, or give them one. {ADAPTER}"
        with foreign(what, remedy):
            made = self.processor(text=[text], images=nested, return_tensors="pt", add_special_tokens=adds)
        return dict(made)

    def _seen(self, model: PreTrainedModel, prompt: EncodedPrompt) -> Any:
        """Return the output of the stock model's `get_image_features` for a prompt."""
        base: Any = self.unwrap(model)
        taken = inspect.signature(base.get_image_features).parameters
        vision = {name: tensor for name, tensor in _on(model, prompt.vision).items() if name in taken}
        return base.get_image_features(**vision, return_dict=True)

    def _features(self, model: PreTrainedModel, prompt: EncodedPrompt) -> Sequence[torch.Tensor]:
        pooled = self._seen(model, prompt).pooler_output
        self._in_pieces = isinstance(pooled, list | tuple)
        if self._in_pieces:
            return pooled
        if len(pooled) == len(prompt.frames):
            return [image.flatten(0, -2) for image in pooled]
        tokens = pooled.flatten(0, -2)  # of the tiles of all images
        counts = [self.image_tokens(*frame.original_wh) for frame in prompt.frames] if len(prompt.frames) > 1 else []
        return tokens.split(counts) if sum(counts) == len(tokens) else [tokens]

    def _difference(self, model: Any, decoder: torch.nn.Module) -> str | None:
        """Compare what the language model gets in the stock forward and in ours; returns why they differ, or None."""
        prompt, picture = Prompt("<image>?", ("",)), linear_gradient("L").convert("RGB").resize((336, 224))
        encoded = self.encode(prompt, [picture])
        with foreign(self._unsuited("its get_image_features fails on what its processor makes")):
            seen = self._seen(model, encoded)
        if more := sorted(set(seen) - _OF_VISION):
            return f"its images have {', '.join(more)} besides their features"
        inputs = _on(model, self._inputs(encoded.text, [picture]))
        features = self.image_features(model, [encoded])
        ids_1L = inputs["input_ids"]
        (own_positions,) = self.positions(model, [encoded])
        our_arguments = {
            "input_ids": ids_1L,
            "attention_mask": torch.ones_like(ids_1L),
            "position_ids": own_positions,
            **self.vision_arguments(features),
        }
        with foreign(self._unsuited("its forward fails")):
            stock, ours = (_handed_on(model, decoder, arguments) for arguments in (inputs, our_arguments))
        positions = stock.pop("position_ids", None)
        ours.pop("position_ids", None)
        if positions is not None and not torch.equal(positions, own_positions):
            return "its image tokens do not have ordinary positions"
        mask = stock.pop("attention_mask", None)
        ours.pop("attention_mask", None)
        if not (mask is None or (isinstance(mask, torch.Tensor) and mask.ndim == 2)):
            return "its attention is not plainly causal"
        if more := sorted(set(_tensors(stock)) ^ set(_tensors(ours))):
            return f"its language model is given {', '.join(more)} as well"
        if not all(torch.allclose(stock[name], ours[name], rtol=1e-3, atol=1e-3) for name in _tensors(ours)):
            return "its features of images do not arrive as they should"
        return None

    def _find_after_head(self, model: Any) -> str | None:
        """Measure what the stock forward makes of given logits of its head; returns what is wrong, or None."""
        text_config, ids = self.config.get_text_config(), self.tokenize("a red circle")
        named = {name: value for name in _SCALES if (value := getattr(text_config, name, None))}
        scales = [1.0, *(scale for value in named.values() for scale in (float(value), 1 / value))]
        cap = getattr(text_config, "final_logit_softcapping", None)
        with foreign(self._unsuited("its forward fails on text")):
            given, made = _made_of_logits(model, torch.tensor([ids], device=model.device))
        for scale, one in product(scales, (None, cap) if cap else (None,)):
            due = given * scale if one is None else one * torch.tanh(given * scale / one)
            if due.shape == made.shape and torch.allclose(due, made, rtol=0.02, atol=1e-3):
                self.logit_scale, self.logit_cap = scale, one
                return None
        return "it changes its logits after the output head, and not by a scale or a soft cap that its config names"


class _ReachedError(Exception):
    """The forward pass has reached the language model."""


def _handed_on(model: Any, decoder: torch.nn.Module, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments with which the model's forward calls its language model, which is not run."""
    handed: dict[str, Any] = {}

    def stop(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        handed.update(kwargs)
        raise _ReachedError

    hook = decoder.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        model(**arguments)
    except _ReachedError:
        return handed
    finally:
        hook.remove()
    return handed


def _made_of_logits(model: Any, ids_1L: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Put logits from −50 to 50 in the place of the head's; returns them, and what the stock forward makes of them."""
    given: list[torch.Tensor] = []

    def put(head: Any, arguments: Any, logits: torch.Tensor) -> torch.Tensor:
        given.append(torch.linspace(-50, 50, logits.numel(), device=logits.device).reshape(logits.shape).to(logits))
        return given[0]

    hook = model.get_output_embeddings().register_forward_hook(put)
    try:
        made = model(input_ids=ids_1L, attention_mask=torch.ones_like(ids_1L), use_cache=False).logits
    finally:
        hook.remove()
    return given[0].float(), made.float()


def _tensors(arguments: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in arguments.items() if isinstance(value, torch.Tensor)}


def _decoder(model: Any) -> torch.nn.Module | None:
    decoder = None if model.config.is_encoder_decoder else model.get_decoder()
    return None if decoder is model else decoder


def _on(model: Any, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Move inputs to the model's device; pixels get its type."""
    return {name: x.to(model.device, model.dtype if x.is_floating_point() else x.dtype) for name, x in inputs.items()}
