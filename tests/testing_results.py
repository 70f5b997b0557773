"""Results of evaluations on the disk, written as `vlm-r1 eval` writes them, of constructed answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from testing_samples import sample
from vlm_r1.evaluation.evaluate import make_result
from vlm_r1.evaluation.protocol import as_protocol
from vlm_r1.evaluation.runner import write_result
from vlm_r1.evaluation.samples import Sample
from vlm_r1.runtime.run_folder import write_json
from vlm_r1.runtime.text import json_text

GOLD = [0, 0, 100, 100]


def box_of(percent: int) -> str:
    """An answer whose IoU with the gold box is so many percent."""
    return f"[0, 0, 100, {percent}]"


def boxes(percents: Iterable[int], **more: Any) -> list[Sample]:
    """Answers to records "0", "1", …, each on an image of its own, with IoUs in percent."""
    return [boxed(number, percent, **more) for number, percent in enumerate(percents)]


def boxed(number: int, percent: int, **more: Any) -> Sample:
    """The answer to one record."""
    own = {"record_id": str(number), "source": f"val.jsonl:{number + 1}", "image": f"{number}.jpg", **more}
    return sample("rec", GOLD, box_of(percent), **own)


def write(folder: Path, name: str, samples: Sequence[Sample], /, **protocol: Any) -> Path:
    """A result with a protocol; keys of it may be given, with `hash` that of the data."""
    data = {"set": "val", "hash": protocol.pop("hash", "abc"), "asked": len(samples)}
    own = as_protocol({"name": "test", "title": "A test", "data": {"set": "val"}, **protocol}, "test")
    resolved = {**own.model_dump(mode="json"), "data": data, "task": samples[0].task}
    rows = [json.loads(json_text({**asdict(one), "row": None})) for one in samples]
    result = make_result(rows, own, resolved, {"model": name}, name=name, data="val.jsonl", seed=0)
    return write_result(folder, result, rows)


def write_of_training(folder: Path, name: str, samples: Sequence[Sample], data: str = "data/val.jsonl") -> Path:
    """A result as a training writes it: without a protocol."""
    path = write(folder, name, samples)
    write_json(path, {"name": name, "data": data, "task": samples[0].task, "metrics": {"iou": {"mean": 0.0}}})
    return path
