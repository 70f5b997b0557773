"""Combinations of the components of a reward into the number from which the advantage is computed.

Each first multiplies the components by their weights. A component that is None was left out and does not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

FORMAT = "format"
"""The component on which all others depend in `gate`."""


Components = Mapping[str, float | None]


def weighted_sum(components: Components, weights: Mapping[str, float]) -> float:
    """Σ_k weights[k] · components[k]. With all weights 1 it is the plain sum of the original VLM-R1.

    Raises:
        KeyError: a component or a weight is missing.

    >>> weighted_sum({"accuracy": 0.5, "format": 1.0}, {"accuracy": 1.0, "format": 0.25})
    0.75
    >>> weighted_sum({"accuracy": None, "format": 1.0}, {"accuracy": 1.0, "format": 0.25})
    0.25
    """
    return sum(_weighted(components, weights).values(), start=0.0)


def product(components: Components, weights: Mapping[str, float]) -> float:
    """Π_k max(0, weights[k] · components[k]): if one component is not positive, the result is 0.

    Raises:
        KeyError: a component or a weight is missing.

    >>> product({"accuracy": 0.5, "format": 1.0}, {"accuracy": 1.0, "format": 1.0})
    0.5
    >>> product({"accuracy": -0.5, "repetition": -1.0}, {"accuracy": 1.0, "repetition": 1.0})
    0.0
    """
    return math.prod(max(0.0, value) for value in _weighted(components, weights).values())


def gate(components: Components, weights: Mapping[str, float]) -> float:
    """The weighted sum if the component "format" is 1 or left out; otherwise the weighted format alone.

    Raises:
        KeyError: a component or a weight is missing, or there is no component "format".

    >>> weights = {"accuracy": 1.0, "format": 0.5}
    >>> gate({"accuracy": 0.75, "format": 1.0}, weights), gate({"accuracy": 0.75, "format": 0.0}, weights)
    (1.25, 0.0)
    """
    weighted = _weighted(components, weights)
    form = components[FORMAT]
    return sum(weighted.values(), start=0.0) if form is None or form >= 1.0 else weighted[FORMAT]


COMBINATIONS: Mapping[str, Callable[[Components, Mapping[str, float]], float]] = {
    "sum": weighted_sum,
    "product": product,
    "gate": gate,
}


def _weighted(components: Components, weights: Mapping[str, float]) -> dict[str, float]:
    if components.keys() != weights.keys():
        raise KeyError(f"parts {sorted(components)} and weights {sorted(weights)} differ")
    return {name: weights[name] * value for name, value in components.items() if value is not None}
