"""Tiny but real checkpoints: the transformers class with a small config, and a small byte-level tokenizer.

They are for demos and tests on a CPU. They are loaded like any other checkpoint; no code treats them specially.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vlm_r1.errors import ConfigError
from vlm_r1.registry import suggestion
from vlm_r1.testing import gemma3, gemma4, glm4v, idefics3, internvl, llava_onevision, qwen_vl
from vlm_r1.testing.common import (
    TAGS,
    TinyFamily,
    TinySize,
    Vocabulary,
    text_sizes,
    tile_edge,
    tile_vision_sizes,
    write_checkpoint,
)

__all__ = [
    "TAGS",
    "TINY",
    "TinyFamily",
    "TinySize",
    "Vocabulary",
    "text_sizes",
    "tile_edge",
    "tile_vision_sizes",
    "write_checkpoint",
    "write_tiny",
    "write_tiny_qwen2_5_vl",
]

TINY: dict[str, TinyFamily] = {
    "gemma3": gemma3.GEMMA3,
    "gemma4": gemma4.GEMMA4,
    "glm46v": glm4v.GLM46V,
    "glm4v": glm4v.GLM4V,
    "glm4v_moe": glm4v.GLM4V_MOE,
    "glmga": glm4v.GLMGA,
    "idefics3": idefics3.IDEFICS3,
    "internvl": internvl.INTERNVL,
    "llava_onevision": llava_onevision.LLAVA_ONEVISION,
    "qwen2_5_vl": qwen_vl.QWEN2_5_VL,
    "qwen2_vl": qwen_vl.QWEN2_VL,
    "qwen3_5": qwen_vl.QWEN3_5,
    "qwen3_5_moe": qwen_vl.QWEN3_5_MOE,
    "qwen3_vl": qwen_vl.QWEN3_VL,
    "qwen3_vl_moe": qwen_vl.QWEN3_VL_MOE,
    "smolvlm": idefics3.SMOLVLM,
}
"""Tiny families by the `model_type` of their config."""


def write_tiny(
    model_type: str, folder: str | Path, corpus: Iterable[str], seed: int = 0, size: TinySize | None = None
) -> Path:
    """Write a Hugging Face folder with a randomly initialised model of a family, a tokenizer and an image processor.

    Args:
        model_type: one of `TINY`, e.g. "qwen3_vl".
        folder: the folder, which is created if missing.
        corpus: texts from which the tokenizer is learned, e.g. the questions and answers of a data set.
        seed: seed of the weights; the state of the global generator does not change.

    Raises:
        ConfigError: unknown model type.
    """
    if model_type not in TINY:
        raise ConfigError(
            f'no tiny checkpoint of model type "{model_type}". {suggestion(model_type, TINY)}'
            f"Known: {', '.join(sorted(TINY))}"
        )
    return write_checkpoint(model_type, TINY[model_type], folder, corpus, seed, size or TinySize())


def write_tiny_qwen2_5_vl(
    folder: str | Path, corpus: Iterable[str], seed: int = 0, size: TinySize | None = None
) -> Path:
    """Call `write_tiny` for the family that the demo trains."""
    return write_tiny("qwen2_5_vl", folder, corpus, seed, size)
