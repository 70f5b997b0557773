"""A few layers represent all: the memory of a model of fifty layers is computed on three of them.

Memory peaks in the first or the last layer of a pass: saved activations grow towards the last, gradients towards the
first. So the ends are kept. Of the layers between them, one of each kind is kept and counted for all of its kind. One
layer more is kept after it, so that the temporary tensors of a layer are freed before memory is measured again.
"""

# pyright: standard

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from vlm_r1.planning.meter import Meter


class Layer(NamedTuple):
    """A layer that was kept.

    Attributes:
        module: the layer.
        times: how many layers it represents, itself included.
        end: whether it is an end of the model, where peaks are looked for.
    """

    module: nn.Module
    times: int
    end: bool


def keep_representatives(model: Any, taps: str = "") -> list[Layer]:
    """Remove, in place, all layers of the model that others represent; returns the layers that are left.

    Layers are of one kind if they have the same class, the same shapes of parameters and the same kind of attention.

    Args:
        taps: see `Adapter.vision_taps`. One layer at the start is kept for each inner layer whose features are used.
    """
    left = []
    levels = len(getattr(model.config.vision_config, taps)) if taps else 0
    for parent, name, layers in list(_lists_of_layers(model)):
        config = getattr(parent, "config", None)
        types = getattr(config, "layer_types", None)
        chosen = choose_representatives(
            [_kind(layer, types and types[n]) for n, layer in enumerate(layers)], first=max(1, levels)
        )
        setattr(parent, name, nn.ModuleList(layers[n] for n in chosen))
        left += [Layer(layers[n], *counts) for n, counts in chosen.items()]
        for place, n in enumerate(chosen):
            _renumber(layers[n], place)
        if taps and hasattr(parent, taps):
            setattr(parent, taps, list(range(levels)))
        if getattr(config, "num_hidden_layers", None) == len(layers):
            config.num_hidden_layers = len(chosen)  # type: ignore[union-attr]
        if types:
            config.layer_types = [types[n] for n in chosen]  # type: ignore[union-attr]
    return left


def choose_representatives(kinds: list[Any], first: int = 1) -> dict[int, tuple[int, bool]]:
    """Choose the layers to keep: number of the layer → (how many it represents, whether it is an end), in order.

    The ends are the `first` layers and the last layer of each kind. Among the others, the first of each kind represents
    its kind, except for the very last layer between the ends, which is kept too.

    >>> choose_representatives(["a"] * 36)
    {0: (1, True), 1: (33, False), 34: (1, False), 35: (1, True)}
    >>> choose_representatives(["a", "b", "b", "b"])
    {0: (1, True), 1: (1, False), 2: (1, False), 3: (1, True)}
    """
    ends = {
        *range(min(first, len(kinds))),
        *(len(kinds) - 1 - kinds[::-1].index(kind) for kind in dict.fromkeys(kinds)),
    }
    between = [n for n in range(len(kinds)) if n not in ends]
    chosen: dict[int, tuple[int, bool]] = dict.fromkeys(ends, (1, True))
    chosen |= dict.fromkeys(between[-1:], (1, False))
    for kind in dict.fromkeys(kinds):
        if same := [n for n in between[:-1] if kinds[n] == kind]:
            chosen[same[0]] = (len(same), False)
    return dict(sorted(chosen.items()))


def watch(layers: list[Layer], meter: Meter) -> Callable[[], None]:
    """Tell the meter which layer runs, forward or backward, until the returned function is called."""
    handles = []
    for layer in layers:
        handles.append(layer.module.register_forward_pre_hook(_begin(layer, meter)))
        handles.append(layer.module.register_forward_hook(_finish(layer, meter)))

    def stop() -> None:
        for handle in handles:
            handle.remove()

    return stop


def _begin(layer: Layer, meter: Meter) -> Callable[..., None]:
    return lambda *_: meter.stand_for(layer.times, looking=layer.end)


def _finish(layer: Layer, meter: Meter) -> Callable[..., None]:
    """A hook for the end of a layer's forward. Its backward begins when the gradient of its output arrives."""

    def begin_backward(gradient: Tensor) -> None:
        meter.count_once(gradient)
        meter.stand_for(layer.times, looking=layer.end)

    def finish(module: nn.Module, args: Any, output: Any) -> None:
        meter.stand_for(1, looking=layer.end)
        hidden = output[0] if isinstance(output, tuple) else output
        if hidden.requires_grad:
            hidden.register_hook(begin_backward)

    return finish


def _lists_of_layers(model: nn.Module) -> Iterator[tuple[nn.Module, str, list[nn.Module]]]:
    for parent in model.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.ModuleList) and all(isinstance(one, GradientCheckpointingLayer) for one in child):
                yield parent, name, list(child)


def _kind(layer: nn.Module, attention: str | None) -> Any:
    shapes: list[tuple[str, torch.Size]] = [(name, p.shape) for name, p in layer.named_parameters()]
    return type(layer), attention, tuple(shapes)


def _renumber(layer: nn.Module, place: int) -> None:
    for module in layer.modules():
        if hasattr(module, "layer_idx"):
            module.layer_idx = place  # type: ignore[assignment]
