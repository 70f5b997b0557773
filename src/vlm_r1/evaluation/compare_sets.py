"""Intervals of differences of numbers that no record has for itself: AP of a whole detection set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlm_r1.evaluation.coco_results import Confidence
from vlm_r1.evaluation.measures_detection import Answered, draw_ap, make_set

_NORMAL = 1.96  # of 95 %


def ap_half_widths(
    first: Sequence[Sequence[Answered]], other: Sequence[Sequence[Answered]], confidence: Confidence, seed: int
) -> dict[str, float]:
    """Compute how uncertain the difference of the APs of two results is: the same images are drawn for both.

    Args:
        first, other: for each draw the answers to all records; the records are the same.
        confidence: see `score_of`.
        seed: of the images that are drawn.

    Returns:
        Half the width of the 95 % interval of other − first, of dataset_ap, dataset_ap50, nms_ap and nms_ap50.
    """
    sets = [[make_set(answers, confidence) for answers in draws] for draws in (first, other)]
    found: dict[str, float] = {}
    for prefix, is_nms in (("dataset_", False), ("nms_", True)):
        first_B2, other_B2 = (draw_ap(own, seed, nms=is_nms) for own in sets)
        B = min(len(first_B2), len(other_B2))  # of more boxes, fewer sets are drawn; the first ones are the same
        change_B2 = other_B2[:B] - first_B2[:B]
        halves = _NORMAL * np.nanstd(change_B2, axis=0, ddof=1)
        found |= {prefix + name: float(half) for name, half in zip(("ap", "ap50"), halves, strict=True)}
    return found
