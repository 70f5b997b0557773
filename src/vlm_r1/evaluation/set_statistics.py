"""All numbers of a detection data set as a whole: COCO's twelve, the same after OVDEval's NMS, and GP and GR.

GP and GR, "greedy precision" and "greedy recall", are in the tables of VLM-R1 (arXiv 2504.07615, T.3), but nobody has
defined them. Here the boxes of an image take gold boxes of their own label greedily, by COCO's matching at IoU 0.5. In
the order of falling score, equal scores as written, each takes the free gold box that it overlaps most, if IoU ≥ 0.5.
Over all images, GP = boxes that took one / all boxes, and GR = gold boxes taken / all gold boxes.

A box with a label that the data set lacks is wrong. Boxes that took a crowd, and crowds, are not counted. Only 100
boxes of one label in one image can be right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple
from typing import NamedTuple

import numpy as np

from vlm_r1.evaluation.coco_matching import ALL, Detections, GroundTruth, IntArray, Matches, match
from vlm_r1.evaluation.coco_statistics import curves_of, summarize
from vlm_r1.evaluation.nms import ovdeval_nms

NAMES = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"),
)
"""Names of COCO's statistics, in pycocotools' order."""

UNDEFINED = -1.0
"""What COCO reports where there is nothing to take a mean of."""

_IOU_50 = 0


class Greedy(NamedTuple):
    """Counts of each image of `Matches.images_I`.

    Attributes:
        hits_I: boxes that took a gold box.
        found_I: all boxes.
        gold_I: gold boxes.
    """

    hits_I: IntArray
    found_I: IntArray
    gold_I: IntArray


def set_statistics(detections: Detections, truth: GroundTruth) -> dict[str, float]:
    """Compute the twelve statistics, the same as `nms_*` after OVDEval's filter, then `gp` and `gr`; −1: undefined.

    >>> box = np.array([(0, 0, 50, 50)], dtype=float)
    >>> truth = GroundTruth(np.array([1]), np.array([7]), box)
    >>> twice = Detections(np.array([1, 1]), np.array([7, 9]), np.vstack([box, box]), np.array([1.0, 1.0]))
    >>> numbers = set_statistics(twice, truth)  # a box with another label at the same place, which NMS prefers
    >>> [round(numbers[name], 3) for name in ("ap", "nms_ap", "gp", "gr")]
    [1.0, 0.0, 0.5, 1.0]
    """
    matches, filtered = match(detections, truth), match(ovdeval_nms(detections, truth), truth)
    hits, found, gold = (int(counts.sum()) for counts in greedy_counts(detections, matches))
    return {
        **coco_numbers(matches),
        **{f"nms_{name}": value for name, value in coco_numbers(filtered).items()},
        "gp": hits / found if found else UNDEFINED,
        "gr": hits / gold if gold else UNDEFINED,
    }


def coco_numbers(matches: Matches) -> Mapping[str, float]:
    """Return COCO's twelve statistics by name."""
    return dict(zip(NAMES, map(float, astuple(summarize(curves_of(matches)))), strict=True))


def greedy_counts(detections: Detections, matches: Matches) -> Greedy:
    """Count the boxes of each image for GP and GR."""
    images_I, seen, gold = matches.images_I, matches.seen, matches.gold
    skipped_N = matches.skip_ATN[ALL, _IOU_50]
    found_I = np.bincount(np.searchsorted(images_I, detections.image_ids_N), minlength=len(images_I))
    return Greedy(
        hits_I=np.bincount(seen.image_N[matches.hit_ATN[ALL, _IOU_50]], minlength=len(images_I)),
        found_I=found_I - np.bincount(seen.image_N[skipped_N], minlength=len(images_I)),
        gold_I=np.bincount(gold.image_N[~gold.crowd_N], minlength=len(images_I)),
    )
