"""Chooses the type of weights and the kernel of attention, and which weights are held in 4 bits."""

# pyright: standard

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.utils.import_utils import is_flash_attn_2_available

from vlm_r1.config.model import ModelSection
from vlm_r1.errors import ConfigError, install_line
from vlm_r1.models.adapter import Adapter, is_within

_FLASH = "flash_attention_2"


class Device(NamedTuple):
    """The kind of a device, e.g. "cuda", and whether it computes in bfloat16 and has flash-attn."""

    kind: str
    bfloat16: bool
    flash_attention: bool


CPU = Device("cpu", bfloat16=False, flash_attention=False)
"""Any CPU. bfloat16 works there, but is slower than float32 on most of them."""


def this_device() -> torch.device:
    """The accelerator of this machine, or the CPU; a torch with CUDA may find no GPU to compute on.

    A Mac computes on its CPU: seeds are drawn in float64, which MPS lacks.
    """
    found = torch.accelerator.current_accelerator(check_available=True)
    return torch.device("cpu") if found is None or found.type == "mps" else found


def look_at(device: torch.device) -> Device:
    """Find out what a device can do, without importing flash-attn."""
    if device.type != "cuda":
        return CPU._replace(kind=device.type)
    return Device("cuda", torch.cuda.is_bf16_supported(including_emulation=False), is_flash_attn_2_available())


@dataclass(frozen=True)
class Precision:
    """How a model is loaded.

    Attributes:
        dtype: of the weights; None: as they are stored.
        attention: `attn_implementation` of transformers, a name or names by sub-config; None: its own choice.
        why: the reasons for both, for people, e.g. ("auto: they train", "auto: on cpu").
        autocast: the type in which passes compute, independent of that of the weights: bfloat16 or float16; None: that
            of the weights.
    """

    dtype: torch.dtype | None
    attention: str | dict[str, str] | None
    why: tuple[str, str]
    autocast: torch.dtype | None = None

    def computing_in(self, model: PreTrainedModel) -> torch.dtype:
        """The type in which passes of a model compute: autocast's, else that of its weights."""
        return self.autocast or model.dtype

    def passes_on(self, device_type: str, *, keep_weights: bool) -> torch.autocast:
        """Return the context of passes on a device type, e.g. "cpu": autocast, or none.

        Args:
            keep_weights: keep rounded weights for all passes, as sampling does for all tokens. A training pass does
                not: the copies would need memory at the same time as its activations.
        """
        enabled = self.autocast is not None
        return torch.autocast(device_type, self.autocast, enabled=enabled, cache_enabled=keep_weights)

    def describe(self, model: PreTrainedModel) -> str:
        """Return a line for people: the types and the attention of the loaded model, with the reasons."""
        dtype = weights_dtype(model)
        seeing = getattr(model.config, "vision_config", model.config)
        why_dtype, why_attention = self.why
        held = sum(p.numel() for p in frozen_matrices(model) if p.dtype != dtype)
        frozen = f", {held:,} frozen ones in bfloat16, which loses nothing" if held else ""
        return (
            f"weights in {_name(dtype)} ({why_dtype}){frozen}, "
            f"{f'passes in {_name(self.autocast)}, ' if self.autocast else ''}"
            f"attention {seeing._attn_implementation} ({why_attention})"
        )


def frozen_copy(precision: Precision) -> Precision:
    """Return the precision of a second model that never trains: its weights are bfloat16 if passes compute in it.

    Where passes compute in float16 it keeps its type, since float16 does not reach as far as published weights.
    """
    return replace(precision, dtype=torch.bfloat16) if precision.autocast is torch.bfloat16 else precision


_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast_dtype(mixed_precision: str, section: ModelSection, device: Device) -> torch.dtype | None:
    """Return the type in which passes compute on a device, by `training.mixed_precision`; None: that of the weights.

    `auto` is bfloat16 if the device computes in it, as GPUs since 2020 do; but not for weights in float64. It is
    float16 on older GPUs if the weights are float32.
    """
    if mixed_precision != "auto":
        return _AUTOCAST.get(mixed_precision)
    if device.bfloat16:
        return None if section.dtype == "float64" else torch.bfloat16
    return torch.float16 if device.kind == "cuda" and section.dtype in ("auto", "float32") else None


def frozen_matrices(model: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the frozen parameters that autocast rounds in each pass: those of linear layers and convolutions.

    Embeddings are not among them, nor an output head that is tied to them: autocast does not round them.
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            own = module.parameters(recurse=False)
            yield from (p for p in own if p.is_floating_point() and not p.requires_grad and id(p) not in tables)


def hold_frozen(model: nn.Module) -> None:
    """Convert frozen matrices to bfloat16 once; else autocast would round them in each pass, for each sampled token.

    This is done only if bfloat16 holds all of them exactly, as it does for published checkpoints. So nothing that is
    computed or saved changes. It is not done for passes in float16, which seldom holds all of them exactly.
    """
    frozen = list(frozen_matrices(model))
    if all(torch.equal(p.data.bfloat16().to(p.dtype), p.data) for p in frozen):
        for parameter in frozen:
            parameter.data = parameter.data.bfloat16()


def weights_dtype(model: PreTrainedModel) -> torch.dtype:
    """Return the type of the weights: that of the token embeddings, which `hold_frozen` never converts."""
    return next(p.dtype for p in model.get_input_embeddings().parameters() if p.is_floating_point())


def save_model(model: Any, folder: str | Path) -> None:
    """Write a transformers or peft model; its config names the type that holds every weight.

    transformers would name the type of the first parameter, often a frozen one, and later load all weights in it.
    """
    model.save_pretrained(folder)
    if isinstance(model, PreTrainedModel) and model.dtype != weights_dtype(model):
        model.config.dtype = weights_dtype(model)  # type: ignore[reportAttributeAccessIssue]
        model.config.save_pretrained(folder)


def choose_precision(
    section: ModelSection, adapter: Adapter, device: Device = CPU, autocast: torch.dtype | None = None
) -> Precision:
    """Choose type and attention on a device, by `dtype` and `attn_implementation` of the recipe.

    Weights that train are float32: a step of 1e-6 is lost in bfloat16, whose numbers near 0.02 are 1e-4 apart. With
    LoRA these weights do not train. flash-attn is used only for the vision tower, where it computes many short windows
    at once. The language model uses our own attention (layout packed), or masks that flash-attn does not support.

    Args:
        autocast: see `autocast_dtype`.
    """
    dtype, why_dtype = _dtype(section, device)
    attention, why_attention = _attention(section, adapter, device, autocast or dtype)
    return Precision(dtype, attention, (why_dtype, why_attention), autocast)


def _dtype(section: ModelSection, device: Device) -> tuple[torch.dtype | None, str]:
    if section.dtype == "checkpoint":
        return None, "as model.dtype says"
    if section.dtype != "auto":
        return getattr(torch, section.dtype), "as model.dtype says"
    if section.lora is not None and device.bfloat16:
        return torch.bfloat16, "auto: only adapters train, in float32"
    return torch.float32, f"auto: on {device.kind}" if section.lora is not None else "auto: they train"


def _attention(
    section: ModelSection, adapter: Adapter, device: Device, dtype: torch.dtype | None
) -> tuple[str | dict[str, str] | None, str]:
    if section.attn_implementation != "auto":
        return section.attn_implementation, "as model.attn_implementation says"
    if device.kind != "cuda":
        return None, f"auto: on {device.kind}"
    if not device.flash_attention:
        return None, "auto: flash-attn is not installed"
    if dtype not in (torch.bfloat16, torch.float16):
        return None, "auto: flash-attn cannot compute in float32"
    if not device.bfloat16:
        return None, "auto: flash-attn does not know GPUs as old as this one"
    if not adapter.knows_family or not hasattr(adapter.config, "vision_config"):
        return None, "auto: not known to suit this model type"
    return {"vision_config": _FLASH}, "auto"


def loading_options(section: ModelSection, adapter: Adapter, precision: Precision) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` for a precision.

    QLoRA (arXiv 2305.14314): the linear layers of the language model are NF4 with nested scales. Vision modules and
    output head keep their type: they are small, and rounding hurts them most.

    Raises:
        ConfigError: 4 bits are wanted, but bitsandbytes is not installed.
    """
    options: dict[str, Any] = {
        "dtype": precision.dtype or "auto",  # transformers' "auto" means: as stored
        "attn_implementation": precision.attention,
    }
    if section.load_in_4bit:
        if find_spec("bitsandbytes") is None:
            raise ConfigError(f"model.load_in_4bit: bitsandbytes is not installed: {install_line('qlora')}")
        from transformers import BitsAndBytesConfig

        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=precision.dtype or torch.bfloat16,
            llm_int8_skip_modules=_whole_in_4bit(adapter),
        )
    return options


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def in_4bit(model: Any, adapter: Adapter) -> list[torch.Tensor]:
    """Return the matrices that `load_in_4bit` holds in 4 bits."""
    whole = tuple(_whole_in_4bit(adapter))
    modules = adapter.unwrap(model).named_modules()
    return [own.weight for name, own in modules if isinstance(own, nn.Linear) and not is_within(name, whole)]


def _whole_in_4bit(adapter: Adapter) -> list[str]:
    return [*adapter.vision_modules, "lm_head"]
