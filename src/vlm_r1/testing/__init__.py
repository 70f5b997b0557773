"""Tiny but real checkpoints: the transformers class with a small config and an own byte-level tokenizer.

For demos and tests on a CPU. Nothing in the package treats them specially: they are loaded like any other checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vlm_r1.errors import ConfigError
from vlm_r1.registry import suggestion
from vlm_r1.testing import gemma3, glm4v, idefics3, internvl, llava_onevision, qwen_vl
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
    "glm4v": glm4v.GLM4V,
    "glm4v_moe": glm4v.GLM4V_MOE,
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
    """Write a randomly initialised model of a family with tokenizer and image processor as a Hugging Face folder.

    Args:
        model_type: one of `TINY`, e.g. "qwen3_vl".
        folder: created if missing.
        corpus: texts to learn the tokenizer from, e.g. the questions and answers of a data set.
        seed: of the weights; the global generator is left as it was.

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
    """`write_tiny` of the family that the demo trains."""
    return write_tiny("qwen2_5_vl", folder, corpus, seed, size)
