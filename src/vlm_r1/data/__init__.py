"""Files on disk → records, images and the order in which they are learnt from. Knows no task, no model and no torch."""

from vlm_r1.data.images import image_size, load_image
from vlm_r1.data.jsonl import read_jsonl, scan_jsonl
from vlm_r1.data.prompts import PromptStream, shard
from vlm_r1.data.sources import load_sources

__all__ = ["PromptStream", "image_size", "load_image", "load_sources", "read_jsonl", "scan_jsonl", "shard"]
