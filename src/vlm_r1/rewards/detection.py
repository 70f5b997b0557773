"""Rewards of answers that are sets of labelled boxes.

An answer that could not be read is worth 0, also where nothing was to be found.
"""

from __future__ import annotations

from collections.abc import Sequence

from vlm_r1.geometry.average_precision import COCO_IOU_THRESHOLDS, mean_average_precision
from vlm_r1.parsing.labelled_boxes import LabelledBox
from vlm_r1.rewards.base import RewardInput, unsuitable

Objects = tuple[LabelledBox, ...]


def map_reward(given: RewardInput[Objects]) -> float:
    """COCO's mAP@[.5:.95] of this image; 1 if nothing is there and nothing was found, 0 if one of the two is empty.

    r = mAP(value, gold), in [0, 1]. Boxes with labels that the gold lacks cost nothing, and surplus boxes after the
    right ones cost nothing: models learn to list everything. Use `odlength`. Source: VLM-R1, arXiv 2504.07615, 5.3.1.

    Raises:
        DataError: the record's gold answer is no set of labelled boxes.
    """
    return _map(given, "map", COCO_IOU_THRESHOLDS)


def ap50_reward(given: RewardInput[Objects]) -> float:
    """As `map_reward`, at IoU 0.5 alone, where a rough box is as good as an exact one.

    Raises:
        DataError: the record's gold answer is no set of labelled boxes.
    """
    return _map(given, "ap50", COCO_IOU_THRESHOLDS[:1])


def odlength_reward(given: RewardInput[Objects]) -> float:
    """mAP, scaled down for every box beyond the number of gold boxes: the reward that does not pay for guessing.

    r = min(1, L_gt / L_pred) · mAP(value, gold), in [0, 1], where L counts boxes of all labels; the factor is 1 where
    nothing was found. Source: VLM-R1, arXiv 2504.07615, eq. 7–8 (odLength).

    Raises:
        DataError: the record's gold answer is no set of labelled boxes.
    """
    mean_precision = _map(given, "odlength", COCO_IOU_THRESHOLDS)
    return mean_precision * min(1.0, len(given.gold) / len(given.value)) if given.value else mean_precision


def _map(given: RewardInput[Objects], name: str, iou_thresholds: Sequence[float]) -> float:
    if not (isinstance(given.gold, tuple) and all(isinstance(item, LabelledBox) for item in given.gold)):
        raise unsuitable(given, name, "sets of labelled boxes")
    if given.value is None:
        return 0.0
    return mean_average_precision(
        [item.box for item in given.value],
        [item.label for item in given.value],
        [item.box for item in given.gold],
        [item.label for item in given.gold],
        iou_thresholds,
    )
