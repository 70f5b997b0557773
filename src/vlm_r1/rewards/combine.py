"""From named parts to the one number that the advantage is computed from."""

from __future__ import annotations

from collections.abc import Mapping


def weighted_sum(parts: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Σ_k weights[k] · parts[k]. With all weights 1 it is the plain sum of the original VLM-R1.

    Raises:
        KeyError: a part or a weight is missing.

    >>> weighted_sum({"accuracy": 0.5, "format": 1.0}, {"accuracy": 1.0, "format": 0.25})
    0.75
    """
    if parts.keys() != weights.keys():
        raise KeyError(f"parts {sorted(parts)} and weights {sorted(weights)} differ")
    return sum((weights[name] * part for name, part in parts.items()), start=0.0)
