"""The gold boxes that a labelled box could match; greedy and optimal matching both begin with them.

The code is plain Python, since an image has few boxes: a few calls of numpy cost more than all pairs of a label.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from vlm_r1.geometry.boxes import iou
from vlm_r1.types import Box

Candidates = list[tuple[float, int]]
"""(IoU, index) of the gold boxes that one prediction could take, the best first, and the last of equally good ones."""


class OfLabel(NamedTuple):
    """The N predictions of one label, and its gold boxes.

    Attributes:
        found_N: indices of the predictions, in order.
        candidates_N: the candidates of each prediction.
        n_gold: number of gold boxes.
    """

    found_N: list[int]
    candidates_N: list[Candidates]
    n_gold: int


@lru_cache(maxsize=4)  # the reward and the metrics of one completion use the same boxes
def candidates_by_label(
    pred_boxes: tuple[Box, ...],
    pred_labels: tuple[str, ...],
    gold_boxes: tuple[Box, ...],
    gold_labels: tuple[str, ...],
    least_iou: float,
) -> list[OfLabel]:
    """Return, for each label of the gold boxes, the candidates with IoU ≥ `least_iou` of each of its predictions.

    >>> box, other = (0, 0, 10, 10), (0, 4, 10, 14)
    >>> candidates_by_label((box, other), ("cat", "dog"), (other, box), ("cat", "cat"), 0.4)
    [OfLabel(found_N=[0], candidates_N=[[(1.0, 1), (0.42857142857142855, 0)]], n_gold=2)]
    """
    found: dict[str, list[int]] = {label: [] for label in gold_labels}
    gold: dict[str, list[int]] = {label: [] for label in gold_labels}
    for m, (_, label) in enumerate(zip(gold_boxes, gold_labels, strict=True)):
        gold[label].append(m)
    for n, (_, label) in enumerate(zip(pred_boxes, pred_labels, strict=True)):
        if label in found:
            found[label].append(n)
    return [
        OfLabel(own, [_candidates(pred_boxes[n], gold_boxes, gold[label], least_iou) for n in own], len(gold[label]))
        for label, own in found.items()
    ]


def _candidates(box: Box, gold_boxes: tuple[Box, ...], members: list[int], least_iou: float) -> Candidates:
    pairs = [(overlap, m) for m in members if (overlap := iou(box, gold_boxes[m])) >= least_iou]
    pairs.sort(reverse=True)
    return pairs
