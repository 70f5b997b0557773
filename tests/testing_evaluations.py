"""Evaluations as files, out of written answers that the package itself judges, measures and writes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vlm_r1.data.images import image_size
from vlm_r1.evaluation.evaluate import make_result
from vlm_r1.evaluation.protocol import DataSet, Protocol
from vlm_r1.evaluation.runner import sample_rows, write_result
from vlm_r1.tasks import get_task
from vlm_r1.tasks.judge import Attempt, judge
from vlm_r1.tasks.templates import get_template
from vlm_r1.types import BoxFormat, Completion, EncodedPrompt, Group, ImageFrame, Record, Rollout, StopReason

PROVENANCE = {
    "model": "checkpoints/small",
    "model_hash": "0123456789abcdef",
    "versions": {"torch": "2.13.0"},
    "command": ["vlm-r1", "eval", "checkpoints/small", "val set.jsonl", "--protocol", "refcoco"],
    "date": "2026-11-28T10:00:00+00:00",
}


def answered(record: Record, text: str, stop: StopReason = StopReason.STOP) -> Group:
    """A judged answer to a record whose pictures are on the disk, or are taken as 64 by 48."""
    sizes = [image_size(path) if Path(path).is_file() else (64, 48) for path in record.images]
    frames = tuple(ImageFrame(wh, wh) for wh in sizes)
    attempt = Attempt(text, record, frames, get_task(record.task), get_template("bare"))
    (score,) = judge([attempt], BoxFormat.ORIGINAL_PIXELS, {"accuracy": 1.0, "format": 0.5})
    n_tokens = max(1, len(text) // 4)
    completion = Completion.sampled(range(n_tokens), (0.0,) * n_tokens, text, stop)
    return Group(record, EncodedPrompt((1, 2), {}, frames, record.problem), (Rollout(completion, score, 0.0),))


def write_evaluation_of(
    folder: Path, name: str, groups: Sequence[Group], protocol: Protocol | None = None, **more: Any
) -> Path:
    """Write `NAME.json` and `NAME.samples.jsonl`; returns the former's path.

    Args:
        more: keys that are put into the result, e.g. subsets.
    """
    rows = [row for group in groups for row in sample_rows(group)]
    protocol = protocol or Protocol(name=name, title=f"{name}, a test", data=DataSet(set=name))
    resolved = protocol.model_dump(mode="json")
    result = make_result(rows, protocol, resolved, PROVENANCE, name=name, data=f"{name}.jsonl", seed=0) | more
    return write_result(folder, result, rows)


def noisy_text(record: Record, rng: random.Random, spread: float) -> str:
    """The gold answer as a model would write it, with its boxes moved; sometimes nothing that can be read."""
    task: Any = get_task(record.task)
    sizes = [image_size(path) for path in record.images]
    text = task.gold_text(task.gold(record), tuple(ImageFrame(wh, wh) for wh in sizes), BoxFormat.ORIGINAL_PIXELS)
    if rng.random() < 0.06:
        return "<think>I look at it. It is somewhere"
    moved = _moved(text, lambda: rng.gauss(0, spread))
    return f"<think>I look.</think><answer>{moved}</answer>"


def _moved(text: str, noise: Callable[[], float]) -> str:
    words = text.replace("[", "[ ").replace("]", " ]").replace(",", " ,").split(" ")
    return " ".join(str(max(0, round(int(word) + noise()))) if word.isdecimal() else word for word in words)
