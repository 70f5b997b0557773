"""Files on disk → records, their images and their order in training. Imports no task, no model and no torch."""

from vlm_r1.data.images import image_hash, image_size, load_image
from vlm_r1.data.jsonl import read_jsonl, scan_jsonl
from vlm_r1.data.prompts import PromptStream, shard
from vlm_r1.data.records import RecordFile, iter_records, recognise
from vlm_r1.data.sources import Sources, load_sources

__all__ = [
    "PromptStream",
    "RecordFile",
    "Sources",
    "image_hash",
    "image_size",
    "iter_records",
    "load_image",
    "load_sources",
    "read_jsonl",
    "recognise",
    "scan_jsonl",
    "shard",
]
