"""Which parameters train: freezing the vision modules, and the layers that LoRA adapts."""

from __future__ import annotations

from torch import nn

from vlm_r1.config.schema import LoraSection
from vlm_r1.errors import ModelError


def freeze(model: nn.Module, modules: tuple[str, ...]) -> None:
    """Stop gradients into the parameters of the named modules, e.g. ("model.visual",)."""
    for name in modules:
        model.get_submodule(name).requires_grad_(False)


def lora_targets(model: nn.Module, vision_modules: tuple[str, ...], include_vision: bool) -> list[str]:
    """Full names of the linear layers to adapt: all but the output head, without the vision modules unless included."""
    head = getattr(model, "lm_head", None)
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module is not head
        and (include_vision or not name.startswith(tuple(f"{vision}." for vision in vision_modules)))
    ]


def add_lora(model: nn.Module, section: LoraSection, vision_modules: tuple[str, ...], include_vision: bool):
    """Wrap the model with new low-rank adapters (peft); only they train."""
    from peft import LoraConfig, get_peft_model

    targets = section.target_modules or lora_targets(model, vision_modules, include_vision)
    config = LoraConfig(
        r=section.r, lora_alpha=int(section.lora_alpha), lora_dropout=section.lora_dropout, target_modules=targets
    )
    return get_peft_model(model, config)  # type: ignore[arg-type]


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(trainable, all) parameters; an error if nothing would train."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if trainable == 0:
        raise ModelError("no parameter would train: unfreeze a part, or name LoRA target modules that exist")
    return trainable, sum(p.numel() for p in model.parameters())
