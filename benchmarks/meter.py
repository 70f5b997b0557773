"""Watches training steps from outside, in the same way whoever takes them: seconds, memory, images and positions."""

from __future__ import annotations

import statistics
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

import psutil
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel as VisionTower
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel as TextModel

from benchmarks.machine import stopwatch
from vlm_r1.runtime.phases import Phases

PHASES = ("sample", "score", "reference", "policy", "optimizer")
"""The parts of a step; what they leave of it is "other"."""

_MB = 1 << 20
_SECONDS_BETWEEN_LOOKS = 0.005


class Meter:
    """Told of the start and of the end of each step; the first one warms up and counts for memory alone.

    Attributes:
        phases: seconds of the running step by name; whoever takes the steps adds to them.
    """

    def __init__(self) -> None:
        self.phases = Phases()
        self._steps: list[dict[str, float]] = []
        self._counts: Counter[str] = Counter()
        self._image_tokens: set[int] = set()
        self._loaded_bytes = self._peak_bytes = 0
        self._stopped = threading.Event()
        self._watched: set[nn.Module] = set()

    def start(self) -> None:
        """Everything is loaded, the first step begins."""
        self._loaded_bytes = psutil.Process().memory_info().rss
        threading.Thread(target=self._look_at_memory, daemon=True).start()
        self._watch = register_module_forward_pre_hook(self._find)
        self._passed = stopwatch()

    def step_done(self) -> None:
        """A step has ended and the next begins."""
        taken = self._passed()
        self._steps.append({"step": taken.wall, "cpu": taken.cpu, **self.phases.seconds})
        if len(self._steps) == 1:
            self._watch.remove()  # all models have been seen: from here on nothing but their own hooks is called
            self._counts.clear()
        self.phases = Phases()
        self._passed = stopwatch()

    def stop(self) -> None:
        """The last step has ended; what comes after it is not looked at."""
        self._stopped.set()

    @property
    def steps(self) -> list[dict[str, float]]:
        """Seconds of each measured step: "step" and by phase on the clock, "cpu" on the processors."""
        return self._steps[1:]

    def counts(self) -> dict[str, Any]:
        """Per measured step: images encoded and positions of the language model; and the peak of memory.

        Positions are batch times length of what the language model was called with, padding included: in passes with
        gradient, in passes of one new token per row, and in all others, which are prefills and the reference.
        """
        per_step = {name: count / len(self.steps) for name, count in self._counts.items()}
        return {
            "memory_mb": (self._peak_bytes - self._loaded_bytes) / _MB,
            "images_encoded": per_step.pop("images", 0),
            "image_tokens": sorted(self._image_tokens),
            "positions": {name: per_step.get(name, 0) for name in ("prefill and reference", "decode", "policy")},
        }

    def _look_at_memory(self) -> None:
        process = psutil.Process()
        while not self._stopped.wait(_SECONDS_BETWEEN_LOOKS):
            self._peak_bytes = max(self._peak_bytes, process.memory_info().rss)

    def _find(self, module: nn.Module, _args: object) -> None:
        """During the first step: count the calls of every language model and vision tower that turns up."""
        if module in self._watched:
            return
        if isinstance(module, TextModel):
            module.register_forward_pre_hook(self._count_positions, with_kwargs=True)
        elif isinstance(module, VisionTower):
            module.register_forward_pre_hook(self._count_images, with_kwargs=True)
        else:
            return
        self._watched.add(module)

    def _count_positions(self, _module: nn.Module, _args: object, given: Mapping[str, Any]) -> None:
        batch, length = given["inputs_embeds"].shape[:2]
        cached = given.get("past_key_values") is not None or given.get("shared_prefix") is not None
        one_new = length == 1 and cached
        stage = "policy" if torch.is_grad_enabled() else "decode" if one_new else "prefill and reference"
        self._counts[stage] += batch * length

    def _count_images(self, module: Any, args: tuple[Any, ...], given: Mapping[str, Any]) -> None:
        grid_thw = given["grid_thw"] if "grid_thw" in given else args[1]
        self._counts["images"] += len(grid_thw)
        self._image_tokens |= {n // module.spatial_merge_size**2 for n in grid_thw.prod(-1).tolist()}


def medians(steps: list[dict[str, float]]) -> dict[str, float]:
    """The median of each entry over all steps."""
    return {name: statistics.median(step[name] for step in steps) for name in steps[0]}
