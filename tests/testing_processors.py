"""The families' combined processors; most are built here, without their half for videos, which needs torchvision."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import transformers
from transformers import AutoProcessor

from vlm_r1.models import Adapter
from vlm_r1.models.generic import Generic
from vlm_r1.models.inline import InlineImages

OF_PATCH_GRIDS = {
    "glm4v": "Glm4vProcessor",
    "glm4v_moe": "Glm4vProcessor",
    "qwen2_5_vl": "Qwen2_5_VLProcessor",
    "qwen2_vl": "Qwen2VLProcessor",
    "qwen3_5": "Qwen3VLProcessor",
    "qwen3_5_moe": "Qwen3VLProcessor",
    "qwen3_vl": "Qwen3VLProcessor",
    "qwen3_vl_moe": "Qwen3VLProcessor",
}
"""Families whose adapter does not name its combined processor."""


@cache
def stock_processor(adapter: Adapter) -> Any:
    """The combined processor of the adapter's family, with its chat template."""
    if isinstance(adapter, Generic):
        return AutoProcessor.from_pretrained(adapter.config.name_or_path)
    if isinstance(adapter, InlineImages):
        processor = combined_processor(adapter.processor_class, adapter, adapter.processor_settings())
    else:
        processor = combined_processor(OF_PATCH_GRIDS[adapter.config.model_type], adapter, {})
    processor.chat_template = adapter.tokenizer.chat_template
    return processor


def combined_processor(name: str, adapter: Adapter, settings: Mapping[str, Any]) -> Any:
    """The class of that name in transformers, over the adapter's tokenizer and image processor."""
    stock = getattr(transformers, name)
    parts = [part for part in stock.get_attributes() if part != "video_processor"]
    changes = {"get_attributes": classmethod(lambda cls: parts), "video_processor": None}
    still: Any = type(stock.__name__, (stock,), changes)
    return still(image_processor=adapter.image_processor, tokenizer=adapter.tokenizer, **settings)
