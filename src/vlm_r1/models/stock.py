"""The outside witness: transformers itself computes a prompt and its answers, called as its documentation says.

Training relies on an adapter's tokens, positions and image features. A mistake in them is in every part of a run, so
nothing inside the run can notice it. Here the checkpoint's own combined processor makes the inputs, and the stock model
computes positions, features and masks itself.
"""

# pyright: standard

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from PIL.Image import Image
from torch import Tensor
from transformers import LogitsProcessorList, ProcessorMixin
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES  # type: ignore[reportPrivateImportUsage]

from vlm_r1.errors import ModelError
from vlm_r1.models.adapter import Adapter
from vlm_r1.models.chat import with_images
from vlm_r1.parsing.tags import THINK
from vlm_r1.types import EncodedPrompt, Prompt

Inputs = Mapping[str, Tensor]
"""Keyword arguments of a stock model's forward for one prompt: input_ids (1, L), pixel_values, image_grid_thw, …"""


def stock_processor(adapter: Adapter) -> Any:
    """Return the combined processor of the checkpoint's family, with its own tokenizer and image processor.

    Its settings come from the checkpoint's files, or else from the adapter. The video processor is left out, since it
    needs torchvision, and what hears.

    Raises:
        ModelError: transformers has no such processor, or it cannot be built here; says why.
    """
    model_type = adapter.config.model_type
    name = PROCESSOR_MAPPING_NAMES.get(model_type)
    if name is None:
        raise ModelError(f'transformers has no processor for model type "{model_type}"')
    try:
        return _build(getattr(transformers, name), adapter)
    except (ImportError, TypeError, ValueError, AttributeError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{name} cannot be built here: {reason}") from error


_LEFT_OUT = ("video_processor", "feature_extractor")
"""Parts of combined processors for videos, which need torchvision, and for sounds."""


class _Seeing(ProcessorMixin):
    """Comes after a family's processor, which hands its parts on by name."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **{name: part for name, part in kwargs.items() if name not in _LEFT_OUT})


def _build(stock: Any, adapter: Adapter) -> Any:
    attributes = [name for name in stock.get_attributes() if name not in _LEFT_OUT]
    changes = {"get_attributes": classmethod(lambda cls: attributes), **dict.fromkeys(_LEFT_OUT)}
    seeing: Any = type(stock.__name__, (stock, _Seeing), changes)
    own = {"image_processor": adapter.image_processor, "tokenizer": adapter.tokenizer}
    taken = inspect.signature(stock.__init__).parameters
    path = adapter.config.name_or_path
    of_files = ProcessorMixin.get_processor_dict(path)[0] if path else {}
    settings = {**adapter.processor_settings(), **{name: x for name, x in of_files.items() if name in taken}}
    settings = {name: value for name, value in settings.items() if name not in (*own, *_LEFT_OUT)}
    absent = dict.fromkeys(name for name in _LEFT_OUT if name in taken)
    processor = seeing(**own, **absent, **settings)
    processor.chat_template = adapter.tokenizer.chat_template
    return processor


def stock_inputs(processor: Any, adapter: Adapter, prompt: Prompt, images: Sequence[Image]) -> Inputs:
    """Return what the processor makes of a prompt's messages with its pictures, and of the adapter's switches.

    If the chat template opens the thought, its `<think>` is removed from the prompt, as in `Adapter.render`.
    """
    messages = with_images(adapter.converse(prompt)[0], images)
    options = {"add_generation_prompt": True, **adapter.chat_template_kwargs}
    inputs = processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt", **options)
    rendered = processor.apply_chat_template(messages, tokenize=False, **options)
    if not rendered.rstrip("\n").endswith(THINK):
        return inputs
    opened = processor.tokenizer(rendered[rendered.rindex(THINK) :], add_special_tokens=False)["input_ids"]
    length = inputs["input_ids"].shape[1]
    of_tokens = {name: x[:, : length - len(opened)] for name, x in inputs.items() if x.shape == (1, length)}
    return {**inputs, **of_tokens}


def inputs_of(encoded: EncodedPrompt, adapter: Adapter, model: Any) -> Inputs:
    """Return the same inputs from an adapter's encoding, if there is no processor; types of tokens follow from ids."""
    ids_1L = torch.tensor([encoded.ids_L])
    known = inspect.signature(adapter.unwrap(model).forward).parameters
    types = (ids_1L == adapter.placeholder_id).long()
    of_types = {name: types for name in ("mm_token_type_ids", "token_type_ids") if name in known}
    return {"input_ids": ids_1L, "attention_mask": torch.ones_like(ids_1L), **of_types, **encoded.vision}


def stock_logits(model: Any, inputs: Inputs, ids_T: Sequence[int]) -> Tensor:
    """Return the logits (T, V) that predict the tokens of an answer, from the model's own forward on prompt and answer.

    Args:
        model: a transformers model, or a peft model around it.
    """
    ids_1T = torch.tensor([list(ids_T)])
    length = inputs["input_ids"].shape[1]
    longer = {}
    for name, value in inputs.items():
        if name == "input_ids":
            value = torch.cat([value, ids_1T.to(value)], 1)
        elif value.shape == (1, length):  # a mask, or types of tokens
            more = torch.ones_like(ids_1T) if name == "attention_mask" else torch.zeros_like(ids_1T)
            value = torch.cat([value, more.to(value)], 1)
        longer[name] = value
    return model(**_placed(longer, model), use_cache=False, logits_to_keep=len(ids_T) + 1).logits[0, :-1]


@torch.no_grad()
def decoded_logits(model: Any, inputs: Inputs, ids_T: Sequence[int]) -> Tensor:
    """Return the same logits from the model's own `generate`, token by token with a cache; these tokens are forced."""

    def say(ids_1L: Tensor, scores_1V: Tensor) -> Tensor:
        token = ids_T[ids_1L.shape[1] - inputs["input_ids"].shape[1]]
        return torch.full_like(scores_1V, float("-inf")).index_fill_(1, torch.tensor([token]).to(ids_1L), 0.0)

    said = model.generate(
        **_placed(inputs, model),
        do_sample=False,
        num_beams=1,
        max_new_tokens=len(ids_T),
        pad_token_id=0,
        logits_processor=LogitsProcessorList([say]),
        return_dict_in_generate=True,
        output_logits=True,
    )
    return torch.cat(said.logits)


def _placed(inputs: Inputs, model: Any) -> dict[str, Tensor]:
    return {k: x.to(model.device, model.dtype if x.is_floating_point() else x.dtype) for k, x in inputs.items()}


@contextmanager
def stock_attention(adapter: Adapter, model: Any, name: str = "sdpa") -> Iterator[None]:
    """Within this context the language model uses an attention of transformers, e.g. "eager"."""
    base = adapter.unwrap(model)
    before = base.config.get_text_config()._attn_implementation
    base.set_attn_implementation({"text_config": name})
    try:
        yield
    finally:
        base.set_attn_implementation({"text_config": before})
