"""Builds a recipe's model in its real shapes, without weights."""

# pyright: standard

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForImageTextToText

from vlm_r1.config.model import ModelSection
from vlm_r1.errors import ModelError
from vlm_r1.models import Adapter
from vlm_r1.models.parts import set_trainable
from vlm_r1.models.precision import Device, frozen_matrices
from vlm_r1.planning.representatives import Layer, keep_representatives
from vlm_r1.policy.build import Setup

GPU = Device("cuda", bfloat16=True, flash_attention=False)
"""The device that plans assume. With flash-attn the vision tower would need the same memory."""


@dataclass(frozen=True)
class Shapes:
    """A model without data, as the trainer would load it. A few of its layers represent all (`representatives.py`)."""

    adapter: Adapter
    model: Any
    layers: list[Layer]
    fake: FakeTensorMode
    setup: Setup

    def computing_exactly(self) -> Shapes:
        """The same without autocast: the trust checks compute so if the weights have at least 32 bits."""
        return replace(self, setup=replace(self.setup, precision=replace(self.setup.precision, autocast=None)))

    def passes(self, *, keep_weights: bool) -> torch.autocast:
        """The autocast context of the recipe's passes. Tensors without data claim to be on a CPU."""
        return self.setup.precision.passes_on("cpu", keep_weights=keep_weights)

    def parameters(self, trainable: bool = False) -> Iterator[tuple[str, nn.Parameter, int]]:
        """Yield (name, parameter, how many it represents) of all or of the trainable ones; tied parameters once."""
        times = {id(p): layer.times for layer in self.layers for p in layer.module.parameters()}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad or not trainable:
                yield name, parameter, times.get(id(parameter), 1)


def load_shapes(section: ModelSection, adapter: Adapter, setup: Setup) -> Shapes:
    """Make the model that a checkpoint's config describes, of tensors without data.

    Args:
        section: `model` of the recipe; its `path` need not hold weights.
        adapter: the adapter of that checkpoint.
        setup: how the model computes on the planned device.

    Raises:
        ConfigError: the section asks for something that this model does not have.
        ModelError: the family has no adapter of its own, so its parts are unknown until its weights are loaded.
    """
    if not adapter.vision_modules:
        raise ModelError(
            f'{section.path}: model type "{adapter.config.model_type}" has no adapter of its own, and without one it '
            "cannot be planned for: try a step with a small training.max_tokens_per_micro_batch instead, or write an "
            "adapter (docs/add_a_model.md)"
        )
    precision = setup.precision
    stored: torch.dtype = getattr(adapter.config, "dtype", None) or torch.float32
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(
            deepcopy(adapter.config),
            dtype=precision.dtype or stored,
            attn_implementation=precision.attention,
            trust_remote_code=section.trust_remote_code,
        )
        adapter.prepare(model)
        layers = keep_representatives(model, adapter.vision_taps)
        model = set_trainable(model, section, adapter)
    fake = FakeTensorMode()
    _take_from_meta(model, fake)
    if precision.autocast is torch.bfloat16:
        for parameter in frozen_matrices(model):  # `hold_frozen` does this with the weights of published checkpoints
            parameter.data = parameter.data.bfloat16()
    if section.gradient_checkpointing:
        adapter.unwrap(model).activation_checkpointing_enable()
    return Shapes(adapter, model, layers, fake, setup)


def _take_from_meta(model: nn.Module, fake: FakeTensorMode) -> None:
    """Replace tensors on "meta" by fake ones on a CPU, because autocast and attention behave differently on "meta"."""
    twins: dict[int, Any] = {}

    def twin(tensor: Tensor) -> Tensor:
        with fake:
            empty = torch.empty(tensor.shape, dtype=tensor.dtype)
        return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty

    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name in [name for name, tensor in tensors.items() if tensor is not None]:
                tensor: Any = tensors[name]
                tensors[name] = twins.setdefault(id(tensor), twin(tensor))  # tied parameters stay tied
