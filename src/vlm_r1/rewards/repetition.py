"""The penalty for repetition."""

# pyright: standard

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from vlm_r1.parsing.labelled_boxes import LabelledBox
from vlm_r1.rewards.base import RewardInput, wrong_option

MAX_WORDS = 10_000
"""Number of words of a text that are read. Few completions have more, and it limits the time."""

_LONGEST_NGRAM = 100
"""Greatest number of words of an item. A step holds ngram times the words of a text in memory."""


def repetition(given: RewardInput[Any], *, ngram: int = 6) -> float:
    """Minus the share of repeated items: of the answer's labelled boxes, or else of the whole text's word n-grams.

    r = unique / total − 1, in [−1, 0]; 0 without items, and for texts of fewer than `ngram` words. White space
    separates words; case does not count. Source: `repetition` of the original VLM-R1; word n-grams after arXiv
    2502.03373.

    Args:
        ngram: number of consecutive words in one item, from 1 to 100.

    Raises:
        ConfigError: `ngram` is out of range.
    """
    if not 1 <= ngram <= _LONGEST_NGRAM:
        raise wrong_option("repetition", "ngram", ngram, f"1 ≤ ngram ≤ {_LONGEST_NGRAM}")
    value = given.value
    if isinstance(value, tuple) and value and all(isinstance(item, LabelledBox) for item in value):
        return _share_of_unique(value) - 1.0
    words = [word.lower() for word in given.text.split(maxsplit=MAX_WORDS)[:MAX_WORDS]]
    ngrams = list(zip(*(words[start:] for start in range(ngram)), strict=False))
    return _share_of_unique(ngrams) - 1.0 if ngrams else 0.0


def _share_of_unique(items: Sequence[Hashable]) -> float:
    return len(set(items)) / len(items)
