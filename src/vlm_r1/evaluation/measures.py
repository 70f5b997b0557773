"""Numbers of samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from vlm_r1.evaluation.metrics import summarize
from vlm_r1.evaluation.protocol import Protocol
from vlm_r1.evaluation.samples import Sample


def measure(samples: Sequence[Sample], protocol: Protocol | None, *, seed: int) -> dict[str, Any]:
    metrics = {}
    for m in dict.fromkeys(k for s in samples for k in s.metrics):
        v = [s.metrics[m] for s in samples if m in s.metrics]
        x = summarize(v, seed=seed)
        metrics[m] = {"mean": x.mean, "ci95": list(x.ci95), "n": len(v)}
    f = [s.parts["format"] for s in samples if s.parts.get("format") is not None]
    return {
        "metrics": metrics,
        "format_rate": sum(f) / len(f) if f else None,
        "parse_failures": dict(Counter(s.reason for s in samples if s.reason)),
    }
