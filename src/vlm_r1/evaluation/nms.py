"""OVDEval's NMS-AP on a whole data set: `geometry.nms` filters each image before COCO's statistics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from vlm_r1.evaluation.coco_matching import Detections, GroundTruth
from vlm_r1.geometry.nms import nms_filter


def ovdeval_nms(detections: Detections, truth: GroundTruth, iou_threshold: float = 0.5) -> Detections:
    """Return the detections of a data set that the filter keeps, in the order given; their `coco_statistics` is NMS-AP.

    Args:
        detections, truth: as for `coco_statistics`, but crowds count as ordinary gold boxes here.
        iou_threshold: see `nms_filter`.

    >>> image, box = np.array([1, 1]), np.array([(0, 0, 10, 10), (0, 0, 10, 10)], dtype=float)
    >>> found = Detections(image, np.array(["man", "woman"]), box, np.array([0.4, 0.7]))
    >>> ovdeval_nms(found, GroundTruth(image[:1], np.array(["man"]), box[:1])).category_ids_N.tolist()
    ['woman']
    """
    found_of_image, gold_of_image = (_by_image(side.image_ids_N.tolist()) for side in (detections, truth))
    boxes, scores, gold_boxes = detections.boxes_N4.tolist(), detections.scores_N.tolist(), truth.boxes_N4.tolist()
    kept: list[int] = []
    for image, index in found_of_image.items():
        gold = [gold_boxes[m] for m in gold_of_image[image]]
        of_image = nms_filter([boxes[n] for n in index], gold, iou_threshold, [scores[n] for n in index])
        kept += [index[n] for n in of_image]
    return detections.take(np.array(sorted(kept), dtype=np.int64))


def _by_image(ids: Sequence[int | str]) -> defaultdict[int | str, list[int]]:
    """Return the indices of the objects of each image, in the order given."""
    index: defaultdict[int | str, list[int]] = defaultdict(list)
    for n, image in enumerate(ids):
        index[image].append(n)
    return index
