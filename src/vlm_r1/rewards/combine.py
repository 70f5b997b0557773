"""From named parts to the one number that the advantage is computed from; table COMBINATIONS.

In each, parts are first multiplied by their weights. A part that is None was left out: it takes no share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

FORMAT = "format"
"""The part that `gate` puts before all others."""


Parts = Mapping[str, float | None]


def weighted_sum(parts: Parts, weights: Mapping[str, float]) -> float:
    """Σ_k weights[k] · parts[k]. With all weights 1 it is the plain sum of the original VLM-R1.

    Raises:
        KeyError: a part or a weight is missing.

    >>> weighted_sum({"accuracy": 0.5, "format": 1.0}, {"accuracy": 1.0, "format": 0.25})
    0.75
    >>> weighted_sum({"accuracy": None, "format": 1.0}, {"accuracy": 1.0, "format": 0.25})
    0.25
    """
    return sum(_weighted(parts, weights).values(), start=0.0)


def product(parts: Parts, weights: Mapping[str, float]) -> float:
    """Π_k max(0, weights[k] · parts[k]): one part without merit leaves nothing, however good the others are.

    Raises:
        KeyError: a part or a weight is missing.

    >>> product({"accuracy": 0.5, "format": 1.0}, {"accuracy": 1.0, "format": 1.0})
    0.5
    >>> product({"accuracy": -0.5, "repetition": -1.0}, {"accuracy": 1.0, "repetition": 1.0})
    0.0
    """
    return math.prod(max(0.0, part) for part in _weighted(parts, weights).values())


def gate(parts: Parts, weights: Mapping[str, float]) -> float:
    """The weighted sum if the form was kept (the part "format" is 1) or left out, else the format's own share alone.

    Raises:
        KeyError: a part or a weight is missing, or there is no part "format".

    >>> weights = {"accuracy": 1.0, "format": 0.5}
    >>> gate({"accuracy": 0.75, "format": 1.0}, weights), gate({"accuracy": 0.75, "format": 0.0}, weights)
    (1.25, 0.0)
    """
    weighted = _weighted(parts, weights)
    form = parts[FORMAT]
    return sum(weighted.values(), start=0.0) if form is None or form >= 1.0 else weighted[FORMAT]


COMBINATIONS: Mapping[str, Callable[[Parts, Mapping[str, float]], float]] = {
    "sum": weighted_sum,
    "product": product,
    "gate": gate,
}


def _weighted(parts: Parts, weights: Mapping[str, float]) -> dict[str, float]:
    if parts.keys() != weights.keys():
        raise KeyError(f"parts {sorted(parts)} and weights {sorted(weights)} differ")
    return {name: weights[name] * part for name, part in parts.items() if part is not None}
