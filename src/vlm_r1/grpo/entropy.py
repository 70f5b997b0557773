"""Which tokens of an update have an entropy that trains: all, or those of the highest entropy."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class EntropyRange(NamedTuple):
    """The tokens that an update trains on by their entropy.

    Attributes:
        threshold: the lowest entropy, in nats; −inf: there is none.
        tokens: how many tokens of all processes reach it; at least 1.
    """

    threshold: float = -math.inf
    tokens: int = 1


ALL_TOKENS = EntropyRange()
"""No token is left out; a bonus counts their number."""


def top_entropies(entropies_N: np.ndarray, quantile: float) -> EntropyRange:
    """Return the range of the share `quantile` of the tokens that has the highest entropy.

    The threshold is the (1 − quantile)-quantile of all entropies, linear between neighbours, as in TRL 1.16; tokens at
    the threshold are in the range. 1: all tokens; 0: those of the highest entropy.

    Source: "Beyond the 80/20 Rule", arXiv 2506.01939.

    >>> top_entropies(np.array([0.0, 3.0, 1.0, 2.0, 4.0]), 0.5)  # the median, and what is above
    EntropyRange(threshold=2.0, tokens=3)
    """
    if not len(entropies_N):
        return ALL_TOKENS
    threshold = float(np.quantile(entropies_N, 1 - quantile))
    return EntropyRange(threshold, int((entropies_N >= threshold).sum()))
