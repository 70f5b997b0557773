"""Checkpoint folder → adapter (config, tokenizer, image processor) and model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer, PreTrainedModel

from vlm_r1.config.schema import ModelSection
from vlm_r1.errors import ModelError
from vlm_r1.models.adapter import Adapter
from vlm_r1.models.parts import add_lora, freeze
from vlm_r1.models.qwen2_5_vl import Qwen25VL
from vlm_r1.registry import suggestion

ADAPTERS: dict[str, type[Adapter]] = {
    "qwen2_5_vl": Qwen25VL,
}
"""Families by the `model_type` of their config."""


def load_adapter(path: str | Path, min_pixels: int | None = None, max_pixels: int | None = None) -> Adapter:
    """Load what is needed to encode prompts, without any weights.

    Tokenizer and image processor are loaded apart, because the families' combined processors demand a video processor
    (and with it torchvision).

    Args:
        path: Hugging Face folder or hub name; a folder that holds only a LoRA adapter works through its base model.
        min_pixels, max_pixels: area limits of the processed image, in pixels.

    Raises:
        ModelError: no checkpoint there, an unknown family, or a missing tokenizer or image processor.
    """
    path = _base_of(path)
    config = _load("config", AutoConfig, path)
    family = ADAPTERS.get(config.model_type)
    if family is None:
        raise ModelError(
            f'{path}: unknown model type "{config.model_type}". {suggestion(config.model_type, ADAPTERS)}'
            f"Known: {', '.join(sorted(ADAPTERS))}"
        )
    tokenizer = _load("tokenizer", AutoTokenizer, path)
    image_processor = _load("image processor", AutoImageProcessor, path)
    if tokenizer.chat_template is None:
        raise ModelError(
            f"{path}: the tokenizer has no chat template; copy chat_template.jinja from the original checkpoint"
        )
    # without its files, transformers silently makes an empty tokenizer
    if tokenizer.convert_tokens_to_ids(family.placeholder) != config.image_token_id:
        raise ModelError(
            f"{path}: the tokenizer does not have {family.placeholder} as token {config.image_token_id}, as the "
            "config says; copy the tokenizer files from the original checkpoint"
        )
    _limit_pixels(image_processor, min_pixels, max_pixels)
    return family(config, tokenizer, image_processor)


def load_model(section: ModelSection, adapter: Adapter, weights: str | Path | None = None) -> Any:
    """Load the policy as the recipe says: type, attention, frozen parts, LoRA, gradient checkpointing.

    Returns the transformers model, or with LoRA the peft model around it.

    Args:
        weights: folder to take the weights from instead of `section.path`: a training checkpoint on resume.
    """
    path = str(weights or section.path)
    if _is_lora(path):
        model = _load_lora(path, section, adapter, trainable=section.lora is not None)
    else:
        model = _pretrained(path, section, adapter)
        if section.lora is not None:
            model = add_lora(model, section.lora, adapter.vision_modules, not section.freeze_vision_modules)
    if section.freeze_vision_modules and section.lora is None:
        freeze(model, adapter.vision_modules)
    if section.gradient_checkpointing:
        adapter.unwrap(model).activation_checkpointing_enable()
    return model


def _pretrained(path: str, section: ModelSection, adapter: Adapter) -> PreTrainedModel:
    dtype, attn_implementation = section.dtype, section.attn_implementation
    wanted = dtype if dtype == "auto" else getattr(torch, dtype)
    model = _load("model", AutoModelForImageTextToText, path, dtype=wanted, attn_implementation=attn_implementation)
    adapter.prepare(model)
    return model


def _load_lora(path: str, section: ModelSection, adapter: Adapter, trainable: bool) -> Any:
    from peft import PeftModel

    base = _pretrained(str(_base_of(path)), section, adapter)
    return PeftModel.from_pretrained(base, path, is_trainable=trainable)


def _is_lora(path: str | Path) -> bool:
    return (Path(path) / "adapter_config.json").exists()


def _base_of(path: str | Path) -> str | Path:
    if not _is_lora(path):
        return path
    from peft import PeftConfig

    base = PeftConfig.from_pretrained(str(path)).base_model_name_or_path
    if base is None:
        raise ModelError(f"{path}: adapter_config.json names no base model")
    return base


def _load(what: str, auto_class: Any, path: str | Path, **options: Any) -> Any:
    """from_pretrained, with an error that says what was missing where."""
    try:
        return auto_class.from_pretrained(str(path), **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(
            f"{path}: cannot load the {what}: {str(error).strip().splitlines()[0]} "
            "(wanted a Hugging Face folder of a vision-language model, or a hub name)"
        ) from error


def _limit_pixels(image_processor: Any, min_pixels: int | None, max_pixels: int | None) -> None:
    if min_pixels is None and max_pixels is None:
        return
    size = image_processor.size
    shortest, longest = min_pixels or size["shortest_edge"], max_pixels or size["longest_edge"]
    patch_area = (image_processor.patch_size * image_processor.merge_size) ** 2
    if longest < patch_area or shortest > longest:
        raise ModelError(
            f"min_pixels {shortest} and max_pixels {longest}: wanted min_pixels <= max_pixels, and max_pixels at least "
            f"{patch_area}, one merged patch"
        )
    image_processor.size = {"shortest_edge": shortest, "longest_edge": longest}
