"""The families' combined processors, built without their half for videos, which needs torchvision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import transformers

from vlm_r1.models import Adapter


def combined_processor(name: str, adapter: Adapter, settings: Mapping[str, Any]) -> Any:
    """The class of that name in transformers, over the adapter's tokenizer and image processor."""
    stock = getattr(transformers, name)
    parts = [part for part in stock.get_attributes() if part != "video_processor"]
    changes = {"get_attributes": classmethod(lambda cls: parts), "video_processor": None}
    still: Any = type(stock.__name__, (stock,), changes)
    return still(image_processor=adapter.image_processor, tokenizer=adapter.tokenizer, **settings)
