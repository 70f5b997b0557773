"""Words that a recipe chooses from. Each choice is written here once; packages above import it."""

from __future__ import annotations

from typing import Literal

ADVANTAGES = ("group", "batch", "none", "rloo", "reinforce_plus_plus")
"""Names of the table `ADVANTAGES` of `grpo/advantage.py`."""

SAMPLERS = ("hf",)
"""Names of the table `SAMPLERS` of `sampling/build.py`."""

OPTIMIZERS = ("adamw", "muon")
"""Names of the table `OPTIMIZERS` of `training/optimizer.py`."""

Coordinates = Literal["pixels", "norm_1000", "norm_1"]
"""Unit of gold boxes: pixels, or 0–1000 or 0–1 of the image's width and height."""

Dtype = Literal["checkpoint", "float32", "bfloat16", "float64"]
"""Type of weights in memory; checkpoint: as stored."""

Layout = Literal["packed", "rows"]
"""How a group goes through the policy: its prompt once, or again for each completion."""

LayoutOption = Literal["auto", Layout]
"""`auto`: packed where the architecture allows it."""

ThinkingChoice = Literal["required", "free", "absent"]
"""Choices for a thought before the answer; the values of `types.Thinking`."""
