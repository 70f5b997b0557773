"""Model families, each with one small adapter. They never mention a task."""

from vlm_r1.models.adapter import Adapter
from vlm_r1.models.loading import ADAPTERS, adapter_of, load_adapter, load_model

__all__ = ["ADAPTERS", "Adapter", "adapter_of", "load_adapter", "load_model"]
