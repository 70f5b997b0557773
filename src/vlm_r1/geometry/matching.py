"""Optimal one-to-one matching of predicted and gold boxes, with as many pairs as possible.

Unlike COCO's greedy matching (`average_precision.py`), it does not depend on the order of the boxes, and no box takes a
gold box that another one needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from vlm_r1.geometry.candidates import candidates_by_label
from vlm_r1.types import Box

IntArray = npt.NDArray[np.int64]

Pairs = list[tuple[int, int]]
"""(index of a predicted box, index of its gold box), by predicted box; each index at most once."""


def optimal_matching(weights_NM: npt.ArrayLike) -> Pairs:
    """Pair rows with columns, min(N, M) pairs, so that the sum of the pairs' weights is greatest.

    Args:
        weights_NM: (N, M) finite weights, which may be negative.

    Returns:
        Pairs (row, column), sorted by row, each at most once. Of equal sums any may be returned.

    Source: `scipy.optimize.linear_sum_assignment` (Crouse 2016), cubic in the lesser of N and M at worst.

    >>> optimal_matching([[9, 8], [8, 1]])  # 8 + 8, though 9 is the greatest
    [(0, 1), (1, 0)]
    """
    # imported here, since it takes a third of a second and most sets of boxes do not need it; it has no types
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

    solve = cast(Callable[..., tuple[IntArray, IntArray]], linear_sum_assignment)
    rows, columns = solve(np.asarray(weights_NM, dtype=np.float64), maximize=True)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def match_boxes(
    boxes: Sequence[Box],
    labels: Sequence[str],
    gold_boxes: Sequence[Box],
    gold_labels: Sequence[str],
    iou_threshold: float = 0.5,
) -> Pairs:
    """Pair predicted and gold boxes with equal labels and IoU ≥ threshold, each at most once.

    Of all such pairings, the result has the most pairs, and of these the greatest total IoU.

    Args:
        boxes, labels: predicted boxes and labels, in any order.
        gold_boxes, gold_labels: gold boxes in the same coordinates, and their labels.
        iou_threshold: least IoU of a pair, in (0, 1].

    Returns:
        (index of a predicted box, index of its gold box), by predicted box.

    >>> gold = [(0, 0, 10, 10), (0, 4, 10, 14)]
    >>> match_boxes([(0, 1, 10, 11), (0, 0, 10, 10)], ["cat", "cat"], gold, ["cat", "cat"], 0.3)  # not 0-0 alone
    [(0, 1), (1, 0)]
    """
    sides = (tuple(boxes), tuple(labels), tuple(gold_boxes), tuple(gold_labels))
    close = [
        (n, m, overlap)
        for own in candidates_by_label(*sides, iou_threshold)
        for n, candidates in zip(own.found_N, own.candidates_N, strict=True)
        for overlap, m in candidates
    ]
    return _best_pairs({(n, m): overlap for n, m, overlap in sorted(close)})


def set_f1(
    boxes: Sequence[Box],
    labels: Sequence[str],
    gold_boxes: Sequence[Box],
    gold_labels: Sequence[str],
    iou_threshold: float = 0.5,
) -> float:
    """Harmonic mean of precision and recall of a set of labelled boxes under the optimal matching.

    F1 = 2 · pairs / (N + M), for N predicted and M gold boxes and the pairs of `match_boxes`. It is in [0, 1]; 1 if
    both sides are empty, 0 if one is. The order of the boxes does not matter, and every wrong box costs: surplus boxes,
    duplicates, and labels that the gold lacks.

    >>> box, other = (0, 0, 10, 10), (20, 20, 30, 30)
    >>> set_f1([box, other], ["cat", "dog"], [box], ["cat"])  # 2 · 1 / (2 + 1)
    0.6666666666666666
    """
    total = len(labels) + len(gold_labels)
    return 2 * len(match_boxes(boxes, labels, gold_boxes, gold_labels, iou_threshold)) / total if total else 1.0


def _best_pairs(close: Mapping[tuple[int, int], float]) -> Pairs:
    """Choose the best pairs among those that are close enough, given with their IoU and sorted by predicted box."""
    rows = {n: i for i, n in enumerate({n: None for n, _ in close})}
    columns = {m: j for j, m in enumerate({m: None for _, m in close})}
    if len(rows) == len(columns) == len(close):
        return list(close)  # no two pairs share a box
    one_more = min(len(rows), len(columns)) + 1  # so that one more pair outweighs the total IoU
    weights_NM = np.zeros((len(rows), len(columns)))
    for (n, m), overlap in close.items():
        weights_NM[rows[n], columns[m]] = one_more + overlap
    row_of, column_of = list(rows), list(columns)
    pairs = [(row_of[i], column_of[j]) for i, j in optimal_matching(weights_NM)]
    return [pair for pair in pairs if pair in close]  # the solver also pairs boxes that are not close
