"""Loads the adapter (config, tokenizer, image processor) and the model of a checkpoint."""

# pyright: standard

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from vlm_r1.config.schema import ModelSection
from vlm_r1.errors import ConfigError, ModelError
from vlm_r1.models.adapter import Adapter
from vlm_r1.models.chat import check_switches
from vlm_r1.models.gemma3 import Gemma3
from vlm_r1.models.gemma4 import Gemma4
from vlm_r1.models.generic import Generic
from vlm_r1.models.glm4v import Glm4v
from vlm_r1.models.idefics3 import Idefics3, SmolVLM
from vlm_r1.models.internvl import InternVL
from vlm_r1.models.llava_onevision import LlavaOnevision
from vlm_r1.models.parts import set_trainable
from vlm_r1.models.precision import Precision, choose_precision, hold_frozen, loading_options
from vlm_r1.models.qwen_vl import Qwen2VL, Qwen3VL, Qwen25VL, Qwen35
from vlm_r1.pretrained.loading import load_with
from vlm_r1.pretrained.remote_code import check_no_kernels, code_note
from vlm_r1.registry import resolve, suggestion
from vlm_r1.types import BoxFormat

ADAPTERS: dict[str, type[Adapter]] = {
    "gemma3": Gemma3,
    "gemma4": Gemma4,
    "glm46v": Glm4v,
    "glm4v": Glm4v,
    "glm4v_moe": Glm4v,
    "glmga": Glm4v,
    "idefics3": Idefics3,
    "internvl": InternVL,
    "llava_onevision": LlavaOnevision,
    "qwen2_5_vl": Qwen25VL,
    "qwen2_vl": Qwen2VL,
    "qwen3_5": Qwen35,
    "qwen3_5_moe": Qwen35,
    "qwen3_vl": Qwen3VL,
    "qwen3_vl_moe": Qwen3VL,
    "smolvlm": SmolVLM,
}
"""Families by the `model_type` of their config."""

_WANTED = {
    "config": "a Hugging Face folder or hub name of a vision-language model; a newer one may need a newer transformers",
    "tokenizer": "tokenizer.json and tokenizer_config.json beside the weights; copy them from the original checkpoint",
    "chat template": "chat_template.jinja or chat_template.json; copy it from the original checkpoint",
    "image processor": "preprocessor_config.json beside the weights; copy it from the original checkpoint",
    "LoRA config": "adapter_config.json, as peft writes it",
    "LoRA weights": "adapter_model.safetensors, as peft writes it, for this base model",
    "model": "model.safetensors, whole, or its shards and their index; copy them from the original checkpoint",
}
"""The files that `_load` wants, for its error messages."""


def load_adapter(
    path: str | Path,
    *,
    min_pixels: int | None = None,
    max_pixels: int | None = None,
    adapter: str | None = None,
    box_format: BoxFormat | None = None,
    chat_template_kwargs: Mapping[str, Any] = {},
    trust_remote_code: bool = False,
) -> Adapter:
    """Load what is needed to encode prompts, without any weights.

    Tokenizer and image processor are loaded separately, because the families' combined processors demand a video
    processor, which needs torchvision.

    Args:
        path: Hugging Face folder or hub name; a folder that holds only a LoRA adapter works through its base model.
        min_pixels, max_pixels: area limits of the processed image, in pixels.
        adapter: name of an adapter, a model type or `package.module:Name`; default: by the checkpoint's model type.
        box_format: how this checkpoint writes boxes, if not as its family; needed for a family without its own adapter.
        chat_template_kwargs: switches of its chat template, e.g. {"enable_thinking": False}.
        trust_remote_code: run the code that the checkpoint brings.

    Raises:
        ConfigError: there is no such adapter, no box format where one is needed, a switch that the template ignores, or
            no code to be trusted.
        ModelError: no checkpoint there, an unknown family, tokenizer, template or image processor missing or of
            another model, or impossible limits.
    """
    path = _base_of(path)
    trusted = {"trust_remote_code": trust_remote_code}
    config = _load("config", AutoConfig, path, **trusted)
    if trust_remote_code:
        code_note(path)
    check_no_kernels(path, config)
    family = _family(config, str(path), trust_remote_code) if adapter is None else _outside(adapter)
    tokenizer = _load("tokenizer", AutoTokenizer, path, **trusted)
    tokenizer.chat_template = _chat_template(path) or tokenizer.chat_template
    if family is Generic and box_format in (None, BoxFormat.INPUT_PIXELS):
        raise ConfigError(
            f'{path}: model type "{config.model_type}" has no adapter of its own, so model.box_format has to say how '
            f"it writes boxes: {', '.join(f.value for f in BoxFormat if f is not BoxFormat.INPUT_PIXELS)}"
        )
    loaded = family.__new__(family)
    loaded.trust_remote_code = trust_remote_code  # before __init__, which may load a processor
    loaded.__init__(config, tokenizer, _load("image processor", AutoImageProcessor, path, **trusted))
    loaded.box_format = box_format or loaded.box_format
    loaded.check(str(path))
    check_switches(loaded.tokenizer, chat_template_kwargs, str(path))
    loaded.chat_template_kwargs = dict(chat_template_kwargs)
    if min_pixels is not None or max_pixels is not None:
        loaded.limit_pixels(min_pixels, max_pixels)
    return loaded


def adapter_of(
    section: ModelSection, folder: str | Path | None = None, *, chat_template_kwargs: Mapping[str, Any]
) -> Adapter:
    """Return the adapter that a recipe asks for, loaded from its checkpoint or from another folder with the same model.

    Args:
        chat_template_kwargs: the recipe's `data.chat_template_kwargs`.

    Raises:
        ConfigError, ModelError: see `load_adapter`.
    """
    path = section.path if folder is None else folder
    return load_adapter(
        path,
        min_pixels=section.min_pixels,
        max_pixels=section.max_pixels,
        adapter=section.adapter,
        box_format=section.box_format,
        chat_template_kwargs=chat_template_kwargs,
        trust_remote_code=section.trust_remote_code,
    )


def load_model(
    section: ModelSection, adapter: Adapter, weights: str | Path | None = None, precision: Precision | None = None
) -> Any:
    """Load the policy as the recipe says: type, attention, frozen parts, LoRA, gradient checkpointing.

    Args:
        weights: folder to take the weights from instead of `section.path`: a training checkpoint on resume. If it holds
            LoRA adapters, `section.path` is their base.
        precision: from `choose_precision`; default: that of a CPU.

    Returns:
        The transformers model, or with LoRA the peft model around it.

    Raises:
        ConfigError: the section asks for what this model does not have, or for LoRA adapters on top of others.
        ModelError: the weights cannot be loaded, or belong to another model.
    """
    _check_base(section)
    path, precision = str(weights or section.path), precision or choose_precision(section, adapter)
    if _is_lora(path):
        base = _base_of(path) if weights is None or _is_lora(section.path) else section.path
        model = _load_lora(path, str(base), section, adapter, precision)
    else:
        model = set_trainable(_pretrained(path, section, adapter, precision), section, adapter)
    if precision.autocast is torch.bfloat16:
        hold_frozen(model)
    if section.gradient_checkpointing:
        adapter.unwrap(model).activation_checkpointing_enable()
    return model


def empty_model(section: ModelSection, adapter: Adapter) -> Any:
    """Return the policy of `load_model` without weights: only shapes, names and which parameters train. It is fast.

    Raises:
        ConfigError: the section asks for something that this model or this machine does not have.
    """
    _check_base(section)
    loading_options(section, adapter, choose_precision(section, adapter))
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(adapter.config, trust_remote_code=section.trust_remote_code)
        return set_trainable(model, section, adapter)


def _check_base(section: ModelSection) -> None:
    if section.lora is not None and _is_lora(section.path):
        raise ConfigError(
            f"{section.path}: holds LoRA adapters, not a model to put new ones on. Merge them first: vlm-r1 export RUN "
            "--to DIR, then --model.path=DIR"
        )


def note_of(path: str | Path) -> str:
    """Return `code_note` of the checkpoint that a path leads to: LoRA adapters lead to their base model.

    Raises:
        ConfigError: it brings no code.
        ModelError: the LoRA adapters name no base model.
    """
    return code_note(_base_of(path))


def trusted_code(section: ModelSection, weights: str | Path | None = None) -> str:
    """Import the code of a checkpoint that the recipe trusts, and return the warning about it (`code_note`).

    transformers copies the code into its own folder first, which several processes must not do at once.

    Args:
        weights: a training checkpoint, which has a copy of the code.

    Raises:
        ConfigError: the checkpoint brings no code.
        ModelError: it cannot be loaded.
    """
    note = note_of(section.path)
    for path in dict.fromkeys((section.path, str(weights or section.path))):
        if weights is None or path == section.path or not _is_lora(path):
            config = adapter_of(section, path, chat_template_kwargs={}).config
            with torch.device("meta"):
                AutoModelForImageTextToText.from_config(config, trust_remote_code=True)
    return note


def _family(config: PretrainedConfig, source: str, trusted: bool) -> type[Adapter]:
    model_type = config.model_type
    if model_type in ADAPTERS:
        return ADAPTERS[model_type]
    if trusted and AutoModelForImageTextToText.__name__ in (getattr(config, "auto_map", None) or {}):
        return Generic
    known = f"{suggestion(model_type, ADAPTERS)}Known: {', '.join(sorted(ADAPTERS))}"
    if model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise ModelError(f'{source}: model type "{model_type}" does not take images and text. {known}')
    return Generic


def _outside(name: str) -> type[Adapter]:
    family = resolve("adapter", name, ADAPTERS)
    if not (isinstance(family, type) and issubclass(family, Adapter)):
        raise ConfigError(f'adapter "{name}" is {family!r}: wanted a class that inherits from vlm_r1.models.Adapter')
    return family


def _chat_template(path: str | Path) -> str | None:
    """The processor's chat template (chat_template.json in transformers 4); the tokenizer's may know no images."""
    settings, _ = _load_with("chat template", ProcessorMixin.get_processor_dict, path)
    template = settings.get("chat_template")
    return template.get("default") if isinstance(template, dict) else template


def _pretrained(path: str, section: ModelSection, adapter: Adapter, precision: Precision) -> PreTrainedModel:
    model, found = _load(
        "model",
        AutoModelForImageTextToText,
        path,
        trust_remote_code=section.trust_remote_code,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # they are reported below, by name
        **loading_options(section, adapter, precision),
    )
    misfits = [f"no {name}" for name in sorted(found["missing_keys"])]
    misfits += [
        f"{name} of shape {tuple(own)}, not {tuple(due)}" for name, own, due in sorted(found["mismatched_keys"])
    ]
    if misfits:
        raise ModelError(
            f"{path}: the weights are not those of the {adapter.config.model_type} that config.json describes: "
            f"{misfits[0]}, and {len(misfits) - 1} more; take config.json and all files of weights from one checkpoint"
        )
    if model.dtype == torch.float64:
        model.set_experts_implementation("eager")  # torch's grouped matrix product has no float64
    adapter.prepare(model)
    return model


def _load_lora(path: str, base: str, section: ModelSection, adapter: Adapter, precision: Precision) -> Any:
    from peft import PeftModel

    from vlm_r1.models.lora_patterns import check_patterns  # peft takes a second to import

    under, trains = _pretrained(base, section, adapter, precision), section.lora is not None
    _load_with("LoRA config", lambda path: check_patterns(path, under), path)
    model = _load_with("LoRA weights", lambda path: PeftModel.from_pretrained(under, path, is_trainable=trains), path)
    model.active_peft_config.base_model_name_or_path = base  # it may have moved since; peft writes it where it saves
    return model


def _is_lora(path: str | Path) -> bool:
    return (Path(path) / "adapter_config.json").exists()


def _base_of(path: str | Path) -> str | Path:
    if not _is_lora(path):
        return path
    from peft import PeftConfig

    base = _load_with("LoRA config", PeftConfig.from_pretrained, path).base_model_name_or_path
    if base is None:
        raise ModelError(f"{path}: adapter_config.json names no base model")
    return base


def _load(what: str, auto_class: Any, path: str | Path, **options: Any) -> Any:
    """Load by one of transformers' auto classes, which run a module of the checkpoint only if they are told so."""
    return _load_with(what, auto_class.from_pretrained, path, **{"trust_remote_code": False, **options})


def _load_with(what: str, loader: Any, path: str | Path, **options: Any) -> Any:
    """Call `loader(path)`; its errors become a `ModelError` that says what is missing where."""
    return load_with(what, _WANTED[what], loader, path, **options)
