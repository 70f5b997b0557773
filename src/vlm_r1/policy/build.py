"""How a policy is put together: the only place where type, attention, layout and weights meet.

Training, its reference, evaluation, `trace`, `check-model` and `plan` all come here, so that they compute alike.
"""

# pyright: standard

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig

from vlm_r1.config import Config
from vlm_r1.config.model import ModelSection
from vlm_r1.models import Adapter, load_model
from vlm_r1.models.precision import (
    Device,
    Precision,
    autocast_dtype,
    choose_precision,
    frozen_copy,
    look_at,
    this_device,
)
from vlm_r1.policy.kernels import obstacle_on
from vlm_r1.policy.logprobs import Policy
from vlm_r1.policy.packed import Layout, LayoutOption, choose_layout


@dataclass(frozen=True)
class Setup:
    """How a model computes on a device. It follows from recipe, adapter and device, before any weights are loaded.

    Attributes:
        precision: types of weights and passes, and the attention of the vision tower.
        layout: how a group goes through the policy.
        layout_reason: a line for people that says why.
    """

    precision: Precision
    layout: Layout
    layout_reason: str

    def of_frozen_copy(self) -> Setup:
        """Return the setup of a second model that never trains, such as the reference of the KL term."""
        return replace(self, precision=frozen_copy(self.precision))

    def describe(self, policy: Policy) -> tuple[str, str]:
        """Return two lines for people about the policy that was built: precision and layout, each with its reason."""
        model = policy.adapter.unwrap(policy.model)
        layout = self.layout_reason
        if self.layout == "packed":
            dtype = self.precision.computing_in(model)
            found = (obstacle_on(policy.model.device, dtype, d, d) for d in head_dims(model.config.get_text_config()))
            if obstacle := next(filter(None, found), None):
                layout += f"; attention goes by matrix products, which is slower, because {obstacle}"
        return self.precision.describe(model), layout


def head_dims(text_config: PretrainedConfig) -> list[int]:
    """Return the sizes of attention heads of a language model, the smallest first; layers may differ (Gemma 4).

    >>> from transformers import Gemma4TextConfig, Qwen2Config
    >>> head_dims(Qwen2Config(hidden_size=64, num_attention_heads=4)), head_dims(Gemma4TextConfig())
    ([16], [256, 512])
    """
    layers: Any = getattr(text_config, "per_layer_config", None)
    own: list[Any] = [layers[n] for n in range(text_config.num_hidden_layers)] if layers else [text_config]
    return sorted({getattr(one, "head_dim", None) or one.hidden_size // one.num_attention_heads for one in own})


def choose_setup(
    section: ModelSection,
    adapter: Adapter,
    device: Device,
    *,
    mixed_precision: str = "no",
    layout: LayoutOption = "auto",
) -> Setup:
    """Decide how the recipe's model computes on a device.

    Args:
        section: `model` of the recipe.
        device: from `models.precision.look_at`.
        mixed_precision, layout: as `training` of the recipe has them.

    Raises:
        ConfigError: layout packed is wanted, but this architecture cannot share a prompt.
    """
    precision = choose_precision(section, adapter, device, autocast_dtype(mixed_precision, section, device))
    return Setup(precision, *choose_layout(layout, adapter.config.get_text_config(), adapter.why_not_shared))


def setup_of(config: Config, adapter: Adapter, device: Device | None = None) -> Setup:
    """Call `choose_setup` for a recipe, on this machine's accelerator unless a device is given.

    Raises:
        ConfigError: see `choose_setup`.
    """
    training = config.training
    return choose_setup(
        config.model,
        adapter,
        device or look_at(this_device()),
        mixed_precision=training.mixed_precision,
        layout=training.layout,
    )


def build_policy(
    section: ModelSection,
    adapter: Adapter,
    setup: Setup,
    *,
    temperature: float = 1.0,
    repetition_penalty: float = 1.0,
    weights: str | Path | None = None,
    device: torch.device | None = None,
) -> Policy:
    """Load the recipe's model and make it a policy.

    Args:
        temperature: logits are divided by it.
        repetition_penalty: of tokens that stand before; 1: none.
        weights: a folder to take the weights from instead of `section.path`, e.g. a checkpoint.
        device: the device to move it to; None: it stays on the CPU.

    Raises:
        ConfigError, ModelError: see `load_model`.
    """
    model = load_model(section, adapter, weights, setup.precision)
    if device is not None:
        model.to(device)
    return Policy(model, adapter, temperature, setup.layout, repetition_penalty)
